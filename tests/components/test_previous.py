"""What came before the current artifact, and what is said if that is gone."""

import pathlib

import ml_metadata
import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.types import artifact_utils

from components import decisions, pushing
from components.previous import CURRENT, PreviousBlessedModelStrategy, PreviousReportStrategy
from core.events import VARIABLE, Reader

LIVE, DELETED = metadata_store_pb2.Artifact.LIVE, metadata_store_pb2.Artifact.DELETED


class Store:
    """ML Metadata with artifacts of two pipelines."""

    def __init__(self, path, root=""):
        self.root = root
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = ml_metadata.MetadataStore(config)
        kind = self.store.put_context_type(metadata_store_pb2.ContextType(name="pipeline"))
        self.contexts = {
            name: self.store.put_contexts([metadata_store_pb2.Context(type_id=kind, name=name)])[0]
            for name in ("pets", "birds")
        }

    def put(self, type_name, state=LIVE, pipeline="pets", **properties):
        """A new artifact in ROOT/PIPELINE/TYPE/N; returns its id."""
        kind = self.store.put_artifact_type(metadata_store_pb2.ArtifactType(name=type_name))
        artifact = metadata_store_pb2.Artifact(type_id=kind, state=state)
        artifact.uri = f"{self.root}/{pipeline}/{type_name}/{len(self.store.get_artifacts()) + 1}"
        for key, value in properties.items():
            artifact.custom_properties[key].int_value = value
        (id,) = self.store.put_artifacts([artifact])
        attribution = metadata_store_pb2.Attribution(artifact_id=id, context_id=self.contexts[pipeline])
        self.store.put_attributions_and_associations([attribution], [])
        return id

    def model(self, state=LIVE, blessed=1, blessing=LIVE, pipeline="pets"):
        """A new model that was judged; returns its id."""
        id = self.put("Model", state, pipeline)
        self.put("ModelBlessing", blessing, pipeline, blessed=blessed, current_model_id=id)
        return id

    def ours(self, artifact):
        return artifact.uri.startswith(f"{self.root}/pets")

    def given(self, current, **kinds):
        """The inputs of a resolver, as TFX finds them: what is live, and the current artifact."""
        found = self.store.get_artifacts()
        types = {kind.name: kind for kind in self.store.get_artifact_types()}

        def all_of(fits):
            return [artifact_utils.deserialize_artifact(types[one.type], one) for one in found if fits(one)]

        inputs = {
            key: all_of(lambda one, kind=kind: one.type == kind and one.state == LIVE and self.ours(one))
            for key, kind in kinds.items()
        }
        return {**inputs, CURRENT: all_of(lambda one: one.id == current)}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "metadata.sqlite")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Reads what was told since."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events.jsonl"))
    reader = Reader(tmp_path / "events.jsonl")
    return lambda: [event["text"] for event in reader.new()]


def baseline(store, current):
    given = store.given(current, model="Model", model_blessing="ModelBlessing")
    found = PreviousBlessedModelStrategy().resolve_artifacts(store.store, given)
    assert len(found["model"]) == len(found["model_blessing"])
    return [model.id for model in found["model"]]


def test_the_baseline_is_the_latest_blessed_model_before_and_nothing_is_said(store, told):
    store.model(DELETED)
    second = store.model()
    store.model(blessed=0)
    store.model(DELETED, blessed=0)
    store.model(DELETED, pipeline="birds")
    current = store.model()
    store.model(DELETED)
    assert baseline(store, current) == [second]
    assert told() == []


def test_a_baseline_that_is_gone_makes_place_for_the_one_before_it(store, told):
    first = store.model()
    store.model(DELETED, blessing=DELETED)
    gone = store.model(DELETED)
    current = store.model()
    assert baseline(store, current) == [first]
    said = f"the baseline model in /pets/Model/{gone} can no longer be used; /pets/Model/{first} is used instead"
    assert told() == [said]


@pytest.mark.parametrize("lost", [{"state": DELETED}, {"blessing": DELETED}])
def test_without_another_one_there_is_no_baseline(store, told, lost):
    gone = store.model(**lost)
    current = store.model()
    assert baseline(store, current) == []
    assert told() == [f"the baseline model in /pets/Model/{gone} can no longer be used, and there is no earlier one"]


def test_a_report_that_is_gone_makes_place_for_the_one_before_it(store, told):
    kept, gone = (store.put("alexnet.EvaluationReport", state) for state in (LIVE, DELETED))
    current = store.put("ModelEvaluation")
    given = store.given(current, report="alexnet.EvaluationReport")
    (found,) = PreviousReportStrategy().resolve_artifacts(store.store, given)["report"]
    assert found.id == kept
    (said,) = told()
    assert said.startswith(f"the previous report in /pets/alexnet.EvaluationReport/{gone} can no longer be used; ")


class Served:
    """A folder of versions, and the models that were pushed there, each with files of its own."""

    def __init__(self, tmp_path):
        self.store = Store(tmp_path / "metadata.sqlite", f"{tmp_path}/artifacts/data")
        self.base = str(tmp_path / "serving")

    def model(self, pushed=True, **state):
        """A new model; returns its id."""
        id = self.store.model(**state)
        (artifact,) = self.store.store.get_artifacts_by_id([id])
        folder = pathlib.Path(artifact.uri, "Format-Serving")
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(f"{self.store.root} {id}")
        if pushed:
            self.push(id)
        return id

    def push(self, id):
        (artifact,) = self.store.store.get_artifacts_by_id([id])
        record = pushing.record_of(f"{artifact.uri}/Format-Serving", pushing.Facts(str(id)))
        with decisions.turn(self.base):
            decisions.decide(record["model"], self.base, record, None, {"kind": "pushed", "by": "x", "reason": ""})

    def lose(self, id):
        """Its files are gone."""
        (artifact,) = self.store.store.get_artifacts_by_id([id])
        artifact.state = DELETED
        self.store.store.put_artifacts([artifact])

    def baseline(self, current):
        """Of the model `current`."""
        given = self.store.given(current, model="Model", model_blessing="ModelBlessing")
        found = PreviousBlessedModelStrategy(self.base).resolve_artifacts(self.store.store, given)
        return [model.id for model in found["model"]]

    def newest(self):
        """What a training begins with that begins where another ended."""
        given = self.store.given(0, model="Model", model_blessing="ModelBlessing")
        del given[CURRENT]
        found = PreviousBlessedModelStrategy(self.base).resolve_artifacts(self.store.store, given)
        assert CURRENT not in found
        return [model.id for model in found["model"]]


@pytest.fixture
def pets(tmp_path):
    return Served(tmp_path)


def test_the_baseline_is_the_model_that_serves(pets):
    a, b = pets.model(), pets.model()
    waits, current = pets.model(pushed=False), pets.model(pushed=False, blessed=0)
    assert waits
    assert [pets.baseline(one) for one in (a, b, current)] == [[], [a], [b]]
    assert pets.newest() == [b]


def test_after_a_rollback_it_is_the_one_that_serves_again_and_the_others_keep_theirs(pets):
    a, b = pets.model(), pets.model()
    before = [pets.baseline(one) for one in (a, b)]
    current = pets.model(pushed=False)
    decisions.rollback(pets.base, None, "ann", "x")
    assert pets.baseline(current) == pets.newest() == [a]
    assert [pets.baseline(one) for one in (a, b)] == before  # so that their evaluation comes from the cache


def test_a_model_that_was_pushed_by_hand_is_a_baseline_too(pets):
    pets.model()
    by_hand = pets.model(blessed=0)
    assert pets.baseline(pets.model(pushed=False)) == [by_hand]


def test_where_the_one_that_serves_is_lost_none_that_people_refused_takes_its_place(pets):
    first, a, b = pets.model(), pets.model(), pets.model()
    current = pets.model(pushed=False)
    decisions.rollback(pets.base, None, "ann", "x")
    pets.lose(a)
    assert b
    assert pets.baseline(current) == [first]


def test_versions_that_others_have_pushed_do_not_count(pets, tmp_path):
    a = pets.model()
    current = pets.model(pushed=False)
    (tmp_path / "other").mkdir()
    other = Served(tmp_path / "other")
    other.base = pets.base
    other.model()  # filed alike, with other content
    assert pets.baseline(current) == [a]
