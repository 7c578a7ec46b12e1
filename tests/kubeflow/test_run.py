"""Compiled pipelines in the harness: TFX's own entrypoint fails there as on a cluster, ours runs them to the end."""

import gzip
import json
import pathlib

import kubeflow_project
import pytest
import yaml
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from kubeflow import compiler
from kubeflow.harness import Cluster

pytestmark = pytest.mark.slow
SUPPORT = str(pathlib.Path(kubeflow_project.__file__).parent)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    return Cluster(tmp_path_factory.mktemp("cluster"), environment={"PYTHONPATH": SUPPORT})


@pytest.fixture(scope="module")
def text():
    parameter = compiler.Parameter("first", ("Draw.words.first",))
    return compiler.compile(kubeflow_project.tiny(), compiler.Options("image", parameters=(parameter,)))


@pytest.fixture(scope="module")
def tiny(cluster, text):
    return cluster.run(text, {"first": 20}, tasks={"Draw", "Nothing", "Judge"})


def test_a_pipeline_runs_with_our_entrypoint(tiny, cluster):
    assert {name: task.state for name, task in tiny.tasks.items()} == dict.fromkeys(
        ["Draw", "Nothing", "Judge"], "succeeded"
    ), [task.log[-2000:] for task in tiny.tasks.values()]
    seen = json.loads(cluster.path(tiny.tasks["Judge"].outputs["page"]["uri"]).read_text())
    assert seen == {
        "numbers": [20, 21, 22],
        "rows": 3,
        "largest": 22,
        "share": 2.0,
        "sides": [1.0, 2.0],
        "file_is_there": True,
        "properties": ["file", "largest", "rows", "share", "sides", "tfx_version"],
        "baseline": None,
    }


def test_uris_in_metadata_are_those_of_the_object_store(tiny):
    table = tiny.tasks["Draw"].outputs["table"]
    assert table["metadata"]["file"] == f"{table['uri']}/data.json"
    assert tiny.tasks["Judge"].outputs["blessing"]["metadata"]["current_model"] == table["uri"]


def test_an_output_that_nobody_wrote_does_not_exist(tiny, cluster):
    assert not cluster.path(tiny.tasks["Nothing"].outputs["model"]["uri"]).exists()


def test_what_kfp_would_show_is_one_file_of_its_type(tiny, cluster):
    page = tiny.tasks["Judge"].outputs["page"]
    assert yaml.safe_load(page["type"]["instanceSchema"])["title"] == "system.HTML"
    assert cluster.path(page["uri"]).is_file()


def test_tfxs_entrypoint_fails_on_an_input_without_a_type(tiny, text, cluster):
    spec = yaml.safe_load(text)
    container = spec["deploymentSpec"]["executors"]["Judge_executor"]["container"]
    container["command"] = list(kubeflow_v2_dag_runner.KUBEFLOW_TFX_CMD)
    container["args"] = container["args"][container["args"].index("--executor_class_path") :]
    run = cluster.run(yaml.safe_dump(spec), {"first": 20}, tasks={"Draw", "Nothing", "Judge"})
    assert [run.tasks[name].state for name in ("Draw", "Nothing", "Judge")] == ["cached", "cached", "failed"]
    assert "'NoneType' object has no attribute 'get'" in run.tasks["Judge"].log  # of the empty instanceSchema


@pytest.mark.parametrize(
    ("publish_logs", "problem"),
    [(True, "Could not import system.Artifact"), (False, "File system scheme 'minio' not implemented")],
)
def test_what_tfx_compiles_fails_in_the_first_task(publish_logs, problem, tmp_path):
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image="image", use_pipeline_spec_2_1=True)
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(config, str(tmp_path), "pipeline.yaml")
    runner.run(kubeflow_project.standard())
    cluster = Cluster(tmp_path / "cluster", environment={"PYTHONPATH": SUPPORT}, publish_logs=publish_logs)
    run = cluster.run((tmp_path / "pipeline.yaml").read_text())
    assert run.state == "failed"
    assert problem in run.tasks["Write"].log


@pytest.mark.parametrize(("limit", "state"), [(2, "succeeded"), (5, "skipped")])
def test_conditions_of_tfx_are_kept(cluster, limit, state):
    run = cluster.run(compiler.compile(kubeflow_project.conditional(limit), compiler.Options("image")))
    assert run.tasks["Write"].state == state, run.tasks["Write"].log[-3000:]
    assert run.state == "succeeded"


# A project of TFX's own components


@pytest.fixture(scope="module")
def penguins(tmp_path_factory):
    """Two runs: the second finds a new span, and what the first has pushed."""
    folder = tmp_path_factory.mktemp("penguins")
    text = kubeflow_project.penguins_on_kubeflow(str(folder / "data"), str(folder / "serving"))
    found = {"cluster": Cluster(folder / "cluster", environment={"PYTHONPATH": SUPPORT})}
    for number, name in enumerate(("first", "second"), 1):
        kubeflow_project.write_penguins(folder / f"data/span-{number}", heavier=number)
        found[name] = found["cluster"].run(text)
        failed = {key: task.log[-3000:] + task.error for key, task in found[name].tasks.items() if task.error}
        assert not failed, f"{name}: {failed}"
    found["served"] = sorted((folder / "serving").iterdir())
    return found


def test_a_file_based_example_gen_takes_the_newest_span(penguins):
    for number, name in enumerate(("first", "second"), 1):
        examples = penguins[name].tasks["CsvExampleGen"].outputs["examples"]
        assert examples["metadata"]["custom:span"] == number  # where TFX's driver puts it
        records = (penguins["cluster"].path(examples["uri"]) / "Split-train").glob("*.gz")
        assert all(gzip.decompress(file.read_bytes()) for file in records)


def test_a_project_of_tfxs_own_components_runs_without_and_with_a_baseline(penguins):
    blessings = [penguins[name].tasks["Evaluator"].outputs["blessing"]["metadata"] for name in ("first", "second")]
    assert [blessing["blessed"] for blessing in blessings] == [1, 1]
    assert ["baseline_model" in blessing for blessing in blessings] == [False, True]
    assert [len(list(version.glob("saved_model.pb"))) for version in penguins["served"]] == [1, 1]
    schemas = [penguins[name].tasks["SchemaGen"].state for name in ("first", "second")]
    assert schemas == ["succeeded", "succeeded"]  # of other statistics


@pytest.mark.parametrize("cache", [True, False])
def test_changed_data_under_the_same_path_are_seen_without_the_cache_alone(tmp_path, cache):
    cluster = Cluster(tmp_path / "cluster", environment={"PYTHONPATH": SUPPORT})
    pipeline = kubeflow_project.penguins(str(tmp_path / "data"), str(tmp_path / "serving"))
    tasks = {"CsvExampleGen": compiler.Task(cache=cache)}
    text = compiler.compile(pipeline, compiler.Options("image", tasks=tasks))
    uris = set()
    for heavier in (1, 2):
        kubeflow_project.write_penguins(tmp_path / "data/span-1", heavier=heavier)
        task = cluster.run(text, tasks={"CsvExampleGen"}).tasks["CsvExampleGen"]
        uris.add(task.outputs["examples"]["uri"])
    assert (task.state, len(uris)) == (("cached", 1) if cache else ("succeeded", 2))
