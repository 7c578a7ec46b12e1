"""What the entrypoint changes on the way from KFP to TFX and back."""

import json
import pathlib
import tempfile

import pytest

from kubeflow import entrypoint

BUCKET = "minio://mlpipeline/v2/artifacts"
MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(entrypoint.ROOT, str(tmp_path))
    return tmp_path


def given(**artifacts):
    """An ExecutorInput with one artifact for each input."""
    inputs = {key: {"artifacts": [value]} for key, value in artifacts.items()}
    return {"inputs": {"artifacts": inputs, "parameterValues": {}}, "outputs": {"artifacts": {}, "outputFile": "x"}}


def only(executor_input, key, side="inputs"):
    (one,) = executor_input[side]["artifacts"][key]["artifacts"]
    return one


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://bucket/a/b", "minio/bucket/a/b"),
        ("s3://bucket/a", "s3/bucket/a"),
        ("gs://bucket/a", "gcs/bucket/a"),
    ],
)
def test_uris_become_the_paths_of_the_launcher_and_back(root, uri, path):
    local = entrypoint.local_path({"uri": uri})
    assert local == str(root / path)
    assert entrypoint.to_uri(local) == uri


def test_without_the_variable_the_paths_are_absolute(monkeypatch):
    monkeypatch.delenv(entrypoint.ROOT, raising=False)
    assert entrypoint.local_path({"uri": "minio://bucket/a"}) == "/minio/bucket/a"
    assert entrypoint.to_uri("/minio/bucket/a") == "minio://bucket/a"


@pytest.mark.parametrize("text", ["/data/minio/x", "hdfs://x/y", "/alexnet/serving", "", "minio"])
def test_what_the_launcher_did_not_stage_stays_as_it_is(root, text):
    assert entrypoint.local_path({"uri": text}) == text
    assert entrypoint.to_uri(text) == text


@pytest.mark.parametrize("kind", [{}, {"instanceSchema": ""}, None])
def test_missing_types_come_from_the_spec(root, kind):
    executor_input = given(model={"uri": f"{BUCKET}/model", "type": kind, "metadata": {}})
    entrypoint.translate_input(executor_input, {"artifacts": {"model": {"artifactType": MODEL}}})
    assert only(executor_input, "model")["type"] == MODEL


def test_a_type_that_is_there_stays(root):
    executor_input = given(model={"uri": f"{BUCKET}/model", "type": {"schemaTitle": "tfx.Model"}})
    entrypoint.translate_input(executor_input, {"artifacts": {"model": {"artifactType": MODEL}}})
    assert only(executor_input, "model")["type"] == {"schemaTitle": "tfx.Model"}


def test_an_optional_input_without_files_is_dropped_and_one_with_files_is_not(root):
    (root / "minio/mlpipeline/v2/artifacts/there").mkdir(parents=True)
    spec = {"artifacts": {key: {"artifactType": MODEL, "isOptional": True} for key in ("there", "gone", "null")}}
    executor_input = given(there={"uri": f"{BUCKET}/there"}, gone={"uri": f"{BUCKET}/gone"})
    executor_input["inputs"]["artifacts"]["null"] = None
    entrypoint.translate_input(executor_input, spec)
    assert executor_input["inputs"]["artifacts"].keys() == {"there"}


def test_a_required_input_without_files_stays(root):
    executor_input = given(model={"uri": f"{BUCKET}/gone"})
    entrypoint.translate_input(executor_input, {"artifacts": {"model": {"artifactType": MODEL}}})
    assert only(executor_input, "model")["uri"] == str(root / "minio/mlpipeline/v2/artifacts/gone")


def test_what_a_condition_alone_reads_is_dropped(root):
    executor_input = given(**{"model": {"uri": f"{BUCKET}/model"}, "_Draw.table": {"uri": f"{BUCKET}/table"}})
    entrypoint.translate_input(executor_input, {"artifacts": {"model": {"artifactType": MODEL}}})
    assert executor_input["inputs"]["artifacts"].keys() == {"model"}


def test_metadata_come_as_they_were_before_the_store(root):
    metadata = {
        "display_name": "model",
        "store_session_info": "{}",
        "sides": {"list": [1.0, 2.0]},
        "size": {"struct": {"a": 1.0}},
        "rows": 3.0,
        "current_model": f"{BUCKET}/model/Format-Serving",
        "elsewhere": "gs://other/model",
    }
    executor_input = given(model={"uri": f"{BUCKET}/model", "metadata": metadata})
    entrypoint.translate_input(executor_input, {})
    assert only(executor_input, "model")["metadata"] == {
        "sides": [1.0, 2.0],
        "size": {"a": 1.0},
        "rows": 3.0,
        "current_model": str(root / "minio/mlpipeline/v2/artifacts/model/Format-Serving"),
        "elsewhere": "gs://other/model",
    }


def test_a_custom_path_is_where_the_files_are(root):
    executor_input = given(model={"uri": f"{BUCKET}/model", "customPath": "/elsewhere/model"})
    entrypoint.translate_input(executor_input, {})
    assert only(executor_input, "model")["uri"] == "/elsewhere/model"


def test_the_logs_that_kfp_publishes_are_not_tfxs_business(root):
    executor_input = given()
    executor_input["outputs"]["artifacts"]["executor-logs"] = {
        "artifacts": [{"uri": f"{BUCKET}/logs", "type": {"schemaTitle": "system.Artifact"}}]
    }
    entrypoint.translate_input(executor_input, {})
    assert executor_input["outputs"]["artifacts"] == {}


def test_outputs_go_back_with_uris_and_without_nulls(root):
    output = {
        "artifacts": {
            "blessing": {
                "artifacts": [
                    {
                        "uri": f"{root}/minio/bucket/blessing",
                        "metadata": {
                            "current_model": f"{root}/minio/bucket/model",
                            "n": None,
                            "l": [f"{root}/s3/b/x"],
                        },
                    }
                ]
            }
        }
    }
    entrypoint.translate_output(output)
    (one,) = output["artifacts"]["blessing"]["artifacts"]
    assert one == {
        "uri": "minio://bucket/blessing",
        "metadata": {"current_model": "minio://bucket/model", "l": ["s3://b/x"]},
    }


def test_parameters_are_put_into_the_properties():
    values = {"config": json.dumps({"a": {"epochs": 3, "rate": 0.1}, "l": [{"x": "y"}]}), "version": "1"}
    executor_input = {"inputs": {"parameterValues": values | {"e": 5.0, "r": 1.0, "x": "z", "v": "2"}}}
    targets = {
        "e": [["config", "a", "epochs"]],
        "r": [["config", "a", "rate"]],
        "x": [["config", "l", "0", "x"]],
        "v": [["version"]],
    }
    entrypoint.apply_parameters(executor_input, targets)
    found = executor_input["inputs"]["parameterValues"]
    assert found.keys() == {"config", "version"}
    assert found["version"] == "2"
    config = json.loads(found["config"])
    assert config == {"a": {"epochs": 5, "rate": 1.0}, "l": [{"x": "z"}]}
    assert isinstance(config["a"]["epochs"], int)
    assert isinstance(config["a"]["rate"], float)


def test_what_the_server_did_not_tell_is_empty():
    due = "{{$.pipeline_job_schedule_time_utc}}"
    executor_input = {"inputs": {"parameterValues": {"due": due, "words": f"as {due}", "other": 1}}}
    entrypoint.forget_placeholders(executor_input)
    assert executor_input["inputs"]["parameterValues"] == {"due": "", "words": f"as {due}", "other": 1}
    entrypoint.forget_placeholders({"inputs": {}})


def test_the_folders_of_the_outputs_are_made_and_kfps_own_types_are_files(tmp_path):
    kinds = {"model": MODEL, "page": {"instanceSchema": "title: system.HTML\ntype: object\n"}}
    artifacts = {
        key: {"artifacts": [{"uri": str(tmp_path / "run" / key), "type": kind}]} for key, kind in kinds.items()
    }
    for _ in range(2):  # a second attempt finds them
        entrypoint.make_folders({"outputs": {"artifacts": artifacts}})
    assert (tmp_path / "run/model").is_dir()
    assert not (tmp_path / "run/page").exists()


def test_a_type_without_a_class_is_named(root):
    executor_input = given(model={"uri": "x", "type": {"instanceSchema": "title: other.Model\ntype: object\n"}})
    with pytest.raises(ValueError, match=r"model has the type 'other\.Model', of which no class is known"):
        entrypoint.check_types(executor_input, {"tfx.Model": "x"})
    entrypoint.check_types(executor_input, {"other.Model": "x"})


def test_beams_arguments_are_left_over():
    arguments, others = entrypoint.parse(
        ["--executor_class_path", "a.B", "--json_serialized_invocation_args", "{}", "--runner=DirectRunner"]
    )
    assert arguments.executor_class_path == "a.B"
    assert others == ["--runner=DirectRunner"]


HOOK = """
import contextlib

@contextlib.contextmanager
def options(task, told):
    yield told["folder"], [f"--task={task}"]
"""


@pytest.fixture
def hook(tmp_path, monkeypatch):
    """Has the variable lead to a hook that gives a folder of its own; returns the folder."""
    (tmp_path / "some_hook.py").write_text(HOOK)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv(entrypoint.BEAM, json.dumps({"hook": "some_hook:options", "told": {"folder": str(folder)}}))
    return folder


def test_the_hook_is_told_the_task_and_gives_beams_options(hook):
    outputs = {key: {"artifacts": [{"uri": f"{BUCKET}/run/Node/id/{key}"}]} for key in ("model", "executor-logs")}
    with entrypoint._beam({"outputs": {"artifacts": outputs}}) as found:
        assert found == (str(hook), [f"--task={BUCKET}/run/Node/id"])


def test_without_the_variable_beam_has_no_options_and_nothing_is_staged_elsewhere(root, monkeypatch):
    monkeypatch.delenv(entrypoint.BEAM, raising=False)
    with entrypoint._beam({}) as found:
        assert found == ("", [])
    before = given(model={"uri": f"{BUCKET}/model"})
    same = json.loads(json.dumps(before))
    with entrypoint.staged_in("", same):
        assert same == before


def test_a_server_that_does_not_tell_the_options_is_named(monkeypatch):
    monkeypatch.setenv(entrypoint.BEAM, "")  # as Kubernetes has it for an annotation that is not there
    with pytest.raises(SystemExit, match="does not give single tasks their annotations"), entrypoint._beam({}):
        pass


def test_a_folder_of_beams_workers_has_the_inputs_and_gives_the_outputs_back(root, hook, monkeypatch):
    (root / "minio/mlpipeline/v2/artifacts/examples/Split-train").mkdir(parents=True)
    (root / "minio/mlpipeline/v2/artifacts/examples/Split-train/data").write_text("in")
    (root / "own").write_text("own")
    monkeypatch.setenv("TMPDIR", str(root))
    executor_input = given(
        examples={"uri": f"{BUCKET}/examples", "type": MODEL},
        own={"uri": "x", "customPath": str(root / "own"), "type": MODEL},
        none={"uri": f"{BUCKET}/none", "type": MODEL},
    )
    executor_input["outputs"] = {
        "outputFile": str(root / "tmp/output_metadata.json"),
        "artifacts": {
            key: {"artifacts": [{"uri": f"{BUCKET}/made/{key}", "type": kind}]}
            for key, kind in (("model", MODEL), ("page", {"schemaTitle": "system.HTML"}), ("nothing", MODEL))
        },
    }
    optional = {"artifacts": {"none": {"isOptional": True, "artifactType": MODEL}}}
    with entrypoint.staged_in(str(hook), executor_input):
        entrypoint.translate_input(executor_input, optional)
        examples, own = (pathlib.Path(only(executor_input, key)["uri"]) for key in ("examples", "own"))
        model, page = (pathlib.Path(only(executor_input, key, "outputs")["uri"]) for key in ("model", "page"))
        assert (examples / "Split-train/data").read_text() == "in"
        assert own.read_text() == "own"
        assert "none" not in executor_input["inputs"]["artifacts"]
        file = pathlib.Path(executor_input["outputs"]["outputFile"])
        paths = (examples, own, model, page, file, pathlib.Path(tempfile.gettempdir()))
        assert all(path.is_relative_to(hook) for path in paths)
        assert entrypoint.to_uri(str(model)) == f"{BUCKET}/made/model"
        model.mkdir()
        (model / "graph").write_text("graph")
        page.write_text("page")
        file.write_text("{}")
    made = root / "minio/mlpipeline/v2/artifacts/made"
    assert sorted(path.name for path in made.iterdir()) == ["model", "page"]
    assert ((made / "model/graph").read_text(), (made / "page").read_text()) == ("graph", "page")
    assert (root / "tmp/output_metadata.json").read_text() == "{}"
    assert tempfile.gettempdir() == str(root)
    assert entrypoint.local_path({"uri": "minio://b/a"}) == f"{root}/minio/b/a"


def test_a_node_that_failed_gives_nothing_back(root, hook):
    executor_input = given()
    executor_input["outputs"] = {"outputFile": str(root / "output.json"), "artifacts": {}}
    with pytest.raises(RuntimeError), entrypoint.staged_in(str(hook), executor_input):
        raise RuntimeError
    assert not (root / "output.json").exists()
