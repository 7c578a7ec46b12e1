"""ML Metadata against what is on the disk, without a pipeline."""

import contextlib
import json
import shutil
import sqlite3
import zlib
from types import SimpleNamespace

import ml_metadata
import pytest
from ml_metadata.proto import metadata_store_pb2
from run_data import ended, evaluated
from tfx.orchestration.portable import inputs_utils

from core import settings, walk
from core.errors import UserError
from core.workdir import Workdir
from pipeline import inventory, lineage, local_runner

Artifact = metadata_store_pb2.Artifact


@pytest.fixture
def workdir(tmp_path):
    made = Workdir(tmp_path / "work")
    made.artifacts("pets").mkdir(parents=True)
    return made


def open_store(workdir):
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workdir.metadata)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return ml_metadata.MetadataStore(config)


def put(store, uri, type_name="Model", **properties):
    """A live artifact; returns its id."""
    kind = store.put_artifact_type(metadata_store_pb2.ArtifactType(name=type_name))
    artifact = Artifact(type_id=kind, uri=uri, state=Artifact.LIVE)
    for key, value in properties.items():
        if isinstance(value, int):
            artifact.custom_properties[key].int_value = value
        else:
            artifact.custom_properties[key].string_value = value
    return store.put_artifacts([artifact])[0]


def execute(store):
    """A new execution; returns its id."""
    kind = store.put_execution_type(metadata_store_pb2.ExecutionType(name="Trainer"))
    return store.put_executions([metadata_store_pb2.Execution(type_id=kind)])[0]


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zero(file):
    file.write_bytes(bytes(file.stat().st_size))


def as_folder(file):
    file.unlink()
    file.mkdir()


DAMAGE = {
    "cut": (cut, "malformed"),
    "cut to whole pages": (lambda file: file.write_bytes(file.read_bytes()[: 3 * 4096]), "malformed"),
    "zeroed": (zero, "not a database"),
    "text": (lambda file: file.write_text("no database, but longer than the head of one\n" * 90), "not a database"),
    "empty": (lambda file: file.write_bytes(b""), "file is empty"),
    "a folder": (as_folder, "unable to open"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_metadata_that_cannot_be_used_is_named_and_can_be_moved_away(workdir, damage):
    execute(open_store(workdir))
    inventory.check(workdir.metadata, workdir.artifacts())
    do, why = DAMAGE[damage]
    do(workdir.metadata)
    with pytest.raises(
        UserError, match=rf"metadata.sqlite, where .* cannot be used \(.*{why}.*move it away to begin"
    ):
        inventory.check(workdir.metadata, workdir.artifacts())
    workdir.metadata.rename(workdir.path / "away")
    inventory.check(workdir.metadata, workdir.artifacts())
    execute(open_store(workdir))


def test_an_empty_file_is_a_beginning_where_nothing_else_is(tmp_path):
    (tmp_path / "metadata.sqlite").write_bytes(b"")
    inventory.check(tmp_path / "metadata.sqlite", tmp_path / "artifacts")


def test_metadata_that_another_program_is_writing_is_not_called_damaged(workdir, monkeypatch):
    execute(open_store(workdir))
    connect = sqlite3.connect
    monkeypatch.setattr(inventory.sqlite3, "connect", lambda *names, **options: connect(*names, timeout=0, **options))
    with contextlib.closing(connect(workdir.metadata)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="in use by another program"):
            inventory.check(workdir.metadata, workdir.artifacts())


def test_executions_are_counted_on_from_the_outputs_that_are_there(workdir):
    for place in ("Trainer/model/7", "Trainer/.system/executor_execution/12", "Trainer/model/notes"):
        write(workdir.artifacts("pets") / place)
    open_store(workdir)
    assert inventory.number(workdir)
    store = open_store(workdir)
    assert store.get_executions() == []
    assert execute(store) == 13
    assert not inventory.number(workdir)
    write(workdir.artifacts("birds") / "Trainer/model/40")  # and the metadata is an older copy
    assert not inventory.number(workdir)
    assert execute(open_store(workdir)) == 41


def test_executions_are_counted_on_from_those_that_results_tell_of(workdir):
    """Or a later evaluation would lie where that of an earlier run is said to be, and pass for it."""
    folder = workdir.run("20260101-000000")
    folder.mkdir(parents=True)
    part = evaluated(path="artifacts/pets/Evaluator/evaluation/30")
    found = ended(folder.name, evaluation=part, model="artifacts/pets/Trainer/model/29/Format-Serving")
    (folder / "results.json").write_text(json.dumps(found))
    shutil.rmtree(workdir.artifacts())
    open_store(workdir)
    assert not inventory.number(workdir)
    assert execute(open_store(workdir)) == 31


def test_without_outputs_nothing_is_lost(workdir):
    execute(open_store(workdir))
    assert not inventory.number(workdir)
    assert execute(open_store(workdir)) == 2


def states(store):
    return {artifact.uri: Artifact.State.Name(artifact.state) for artifact in store.get_artifacts()}


def test_artifacts_whose_files_are_gone_are_marked_deleted_once(workdir):
    store = open_store(workdir)
    for number in (1, 2, 3, 4, 5):
        folder = write(workdir.artifacts("pets") / f"Trainer/model/{number}", one="1", two="22")
        put(store, str(folder.relative_to(workdir.path)), files=json.dumps({"one": 1, "two": 2}))
    put(store, "s3://bucket/model")
    root = workdir.artifacts("pets") / "Trainer/model"
    shutil.rmtree(root / "1")
    (root / "2/one").unlink()
    (root / "3/two").write_text("333")
    (root / "4/more").write_text("of the user's own")
    assert [loss.what.replace(str(root), "") for loss in inventory.look(store, workdir)] == [
        "/1 is gone",
        "/2/one is gone",
        "/3/two has another size",
    ]
    uris = {f"artifacts/pets/Trainer/model/{n}": "DELETED" if n < 4 else "LIVE" for n in (1, 2, 3, 4, 5)}
    assert states(store) == {**uris, "s3://bucket/model": "LIVE"}
    assert inventory.look(store, workdir) == []


def test_artifacts_from_before_their_files_were_recorded_must_be_there(workdir):
    store, root = open_store(workdir), workdir.artifacts("pets") / "Trainer/model"
    for number, files in ((1, {}), (2, {"one": "1"})):
        put(store, str(write(root / str(number), **files)))
    put(store, str(root / "3"))
    assert [loss.what.replace(str(root), "") for loss in inventory.look(store, workdir)] == [
        "/1 is empty",
        "/3 is gone",
    ]


@pytest.mark.parametrize("recorded", [True, False])
def test_what_was_pushed_counts_as_well(workdir, recorded):
    """A push leaves nothing but the version, here or in an object store; one that was refused leaves nothing."""
    store = open_store(workdir)
    told = {"pushed_files": json.dumps({"saved_model.pb": 1})} if recorded else {}
    for number, place in ((1, "serving/pets/1"), (2, "serving/pets/2"), (3, "s3://bucket/3"), (4, None)):
        uri = write(workdir.artifacts("pets") / f"Pusher/pushed_model/{number}").relative_to(workdir.path)
        properties = {"pushed": 0} if place is None else {"pushed": 1, "pushed_destination": place, **told}
        put(store, str(uri), "PushedModel", **properties)
    write(workdir.serving("pets") / "1", **{"saved_model.pb": "x"})
    assert [loss.what for loss in inventory.look(store, workdir)] == [f"{workdir.serving('pets')}/2 is gone"]


def test_a_model_that_waits_no_longer_is_made_anew_without_a_word(workdir):
    """Somebody has decided about it meanwhile, or removed it: only Pusher can tell."""
    store = open_store(workdir)
    for number in (1, 2):
        uri = write(workdir.artifacts("pets") / f"Pusher/pushed_model/{number}").relative_to(workdir.path)
        told = {"pushed": 0, "waits_in": f"serving/pets/.waiting/{number}", "pushed_files": '{"saved_model.pb": 1}'}
        put(store, str(uri), "PushedModel", **told)
    write(workdir.serving("pets") / ".waiting" / "1", **{"saved_model.pb": "x"})
    assert inventory.look(store, workdir) == []
    assert [artifact.state for artifact in store.get_artifacts()] == [Artifact.LIVE, Artifact.DELETED]


def pushed(workdir):
    """An artifact of a push, with its files."""
    write(workdir.artifacts("pets") / "Pusher/pushed_model/1", note="x")
    write(workdir.serving("pets") / "1", **{"saved_model.pb": "xyz"})
    artifact = Artifact(uri="artifacts/pets/Pusher/pushed_model/1")
    artifact.custom_properties["pushed"].int_value = 1
    artifact.custom_properties["pushed_destination"].string_value = "serving/pets/1"
    return artifact


def test_recorded_are_the_files_of_an_artifact_and_of_its_push(workdir, monkeypatch):
    monkeypatch.chdir(workdir.path)
    artifact = pushed(workdir)
    inventory.record(artifact)
    found = {key: value.string_value for key, value in artifact.custom_properties.items()}
    assert {key: json.loads(text) for key, text in found.items() if text.startswith("{")} == {
        "files": {"note": 1},
        "pushed_files": {"saved_model.pb": 3},
        "checksums": {"note": zlib.crc32(b"x")},
        "pushed_checksums": {"saved_model.pb": zlib.crc32(b"xyz")},
    }


@pytest.mark.parametrize("place", ["artifacts/pets/Pusher/pushed_model/1/note", "serving/pets/1/saved_model.pb"])
def test_other_content_of_the_same_size_is_damage(workdir, monkeypatch, place):
    monkeypatch.chdir(workdir.path)
    artifact = pushed(workdir)
    assert inventory.damage(artifact) is None  # as an earlier version left it
    inventory.record(artifact)
    (workdir.artifacts("pets") / "Pusher/pushed_model/1/more").write_text("of the user's own")
    assert inventory.damage(artifact) is None
    (workdir.path / place).write_text((workdir.path / place).read_text().upper())
    assert inventory.damage(artifact) == f"{workdir.path / place} has other content"
    (workdir.path / place).unlink()
    assert inventory.damage(artifact) == f"{workdir.path / place} cannot be read: no such file or directory"


RESOLVER = "tfx.dsl.components.common.resolver.Resolver"


@pytest.mark.parametrize(("node", "expected"), [(RESOLVER, [1]), ("Trainer", [2])])
def test_resolvers_look_on_for_what_is_not_damaged(workdir, monkeypatch, node, expected):
    """Other nodes' inputs come from them, or were looked at as outputs."""
    monkeypatch.chdir(workdir.path)
    store = open_store(workdir)
    for name in ("1", "2"):
        checksums = walk.checksums(write(workdir.path / name, note="x"))
        put(store, name, checksums=json.dumps(checksums))
    write(workdir.path / "2", note="y")

    def latest(*, pipeline_node, metadata_handle):
        found = [one for one in metadata_handle.store.get_artifacts() if one.state == Artifact.LIVE]
        return [{"model": [SimpleNamespace(mlmd_artifact=one, id=one.id) for one in found[-1:]]}]

    monkeypatch.setattr(inputs_utils, "resolve_input_artifacts", latest)
    asked = SimpleNamespace(node_info=SimpleNamespace(type=SimpleNamespace(name=node)))
    with local_runner.observed(SimpleNamespace()):
        given = {"pipeline_node": asked, "metadata_handle": SimpleNamespace(store=store)}
        (found,) = inputs_utils.resolve_input_artifacts(**given)
    assert [artifact.id for artifact in found["model"]] == expected
    assert inputs_utils.resolve_input_artifacts is latest


def test_what_was_discarded_is_deleted_and_nothing_else_changes(workdir):
    store = open_store(workdir)
    one = put(store, "a", files="{}")
    put(store, "b")
    inventory.discard(store, one)
    assert states(store) == {"a": "DELETED", "b": "LIVE"}
    assert store.get_artifacts_by_id([one])[0].custom_properties["files"].string_value == "{}"


def test_artifacts_of_a_directory_that_was_elsewhere_are_found_here(workdir):
    store = open_store(workdir)
    uri = "/old/place/artifacts/pets/Pusher/pushed_model/4"
    put(store, uri, "PushedModel", pushed=1, pushed_destination="/old/place/serving/pets/1", other="/old/places/x")
    inside = put(store, f"{workdir.path}/artifacts/pets/Trainer/model/3")
    others = ["/old/place/mine/model", "s3://bucket/artifacts/pets/Trainer/model/3", "artifacts/pets/Trainer/model/9"]
    for other in others:
        put(store, other)
    inventory.settle(store, workdir, absolute=False)
    moved, *_ = store.get_artifacts()
    assert moved.uri == "artifacts/pets/Pusher/pushed_model/4"
    assert moved.custom_properties["pushed_destination"].string_value == "serving/pets/1"
    assert moved.custom_properties["other"].string_value == "/old/places/x"
    assert [artifact.uri for artifact in store.get_artifacts()[2:]] == others
    # What is right stays as it is: another path would be another input for the cache.
    assert store.get_artifacts_by_id([inside])[0].uri == f"{workdir.path}/artifacts/pets/Trainer/model/3"
    before = [artifact.last_update_time_since_epoch for artifact in store.get_artifacts()]
    inventory.settle(store, workdir, absolute=False)
    assert [artifact.last_update_time_since_epoch for artifact in store.get_artifacts()] == before
    inventory.settle(store, workdir, absolute=True)
    assert store.get_artifacts()[0].uri == f"{workdir.path}/artifacts/pets/Pusher/pushed_model/4"
    assert store.get_artifacts()[-1].uri == f"{workdir.path}/artifacts/pets/Trainer/model/9"


def test_the_last_run_is_the_one_that_was_registered_last_whatever_the_clock_said(workdir):
    store = open_store(workdir)
    kinds = {
        name: store.put_context_type(metadata_store_pb2.ContextType(name=name))
        for name in ("pipeline", "pipeline_run")
    }

    def context(kind, name):
        return store.put_contexts([metadata_store_pb2.Context(type_id=kinds[kind], name=name)])[0]

    assert lineage.last_run(store, "alexnet-pets") is None
    pipeline = context("pipeline", "alexnet-pets")
    assert lineage.last_run(store, "alexnet-pets") is None
    for name in ("20261025-090000", "20261025-010500"):
        run = context("pipeline_run", name)
        store.put_parent_contexts([metadata_store_pb2.ParentContext(child_id=run, parent_id=pipeline)])
    with contextlib.closing(sqlite3.connect(workdir.metadata)) as database, database:
        database.execute("UPDATE Context SET create_time_since_epoch = 5 WHERE name = '20261025-010500'")
    assert lineage.last_run(open_store(workdir), "alexnet-pets") == "20261025-010500"


@pytest.mark.parametrize(
    ("changes", "relative"),
    [
        ([], True),
        (["beam.pipeline_args=[--direct_num_workers=2]"], True),
        (["beam.runner=FlinkRunner", "beam.master=flink:8081"], True),
        (["beam.runner=DataflowRunner"], False),
        (["beam.pipeline_args=[--job_endpoint=localhost:8099]"], False),
    ],
)
def test_paths_are_relative_unless_workers_are_elsewhere(workdir, changes, relative):
    places = local_runner.find_places(settings.load(overrides=changes), workdir)
    form = workdir.relative if relative else str
    assert places.root == form(str(workdir.artifacts("shapes10")))
    assert places.schema == form(str(workdir.schema("shapes10")))
    assert places.checkpoints == form(str(workdir.checkpoints))
    assert places.push == form(str(workdir.serving("shapes10")))


@pytest.mark.parametrize("place", ["/elsewhere", "s3://bucket/serving", "{workdir}/mine"])
def test_a_destination_outside_stays_as_it_is(workdir, place):
    asked = place.format(workdir=workdir.path)
    places = local_runner.find_places(settings.load(overrides=[f"push.destination={asked}"]), workdir)
    assert places.push == ("mine" if place.startswith("{") else asked)
