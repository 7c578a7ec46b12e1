"""Compiled pipelines in the harness: TFX's own entrypoint fails there as on a cluster, ours runs them to the end."""

import gzip
import json
import pathlib
import signal
import time

import image_data
import kubeflow_project
import pytest
import yaml
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from core import settings
from kubeflow import compiler
from kubeflow.harness import Cluster
from pipeline import kubeflow_runner
from review.report import build, schema

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
    assert "cannot access local variable 'title'" in run.tasks["Judge"].log


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_file_based_example_gen_takes_the_newest_span(penguins):
    for number, name in enumerate(("first", "second"), 1):
        examples = penguins[name].tasks["CsvExampleGen"].outputs["examples"]
        assert examples["metadata"]["custom:span"] == number  # where TFX's driver puts it
        records = (penguins["cluster"].path(examples["uri"]) / "Split-train").glob("*.gz")
        assert all(gzip.decompress(file.read_bytes()) for file in records)


@pytest.mark.slow
def test_a_project_of_tfxs_own_components_runs_without_and_with_a_baseline(penguins):
    blessings = [penguins[name].tasks["Evaluator"].outputs["blessing"]["metadata"] for name in ("first", "second")]
    assert [blessing["blessed"] for blessing in blessings] == [1, 1]
    assert ["baseline_model" in blessing for blessing in blessings] == [False, True]
    assert [len(list(version.glob("saved_model.pb"))) for version in penguins["served"]] == [1, 1]
    schemas = [penguins[name].tasks["SchemaGen"].state for name in ("first", "second")]
    assert schemas == ["succeeded", "succeeded"]  # of other statistics


@pytest.mark.slow
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


# Our own pipeline, from end to end

SMALL = [
    *image_data.SMALL,
    "training.epochs=2",
    "kubeflow.retries=0",
    # With these in the cache, a run that changes nothing else starts at what it changes.
    "kubeflow.nodes={ImageExampleGen: {cache: true}, ImageSchemaGen: {cache: true}, Trainer: {retries: 1}}",
]
UP_TO_TRAINER = {"ImageExampleGen", "StatisticsGen", "ImageSchemaGen", "ExampleValidator", "Transform", "Trainer"}


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return tmp_path_factory.mktemp("volume")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, volume):
    """The runs in their order; the first and the second are the same run, as if a controller started it twice."""
    alexnet = Cluster(tmp_path_factory.mktemp("alexnet"))
    chosen = settings.load(overrides=[*SMALL, f"kubeflow.volume_path={volume}"], **{"data.source": "shapes10/small"})
    compiled = kubeflow_runner.compile(chosen)
    found = {"cluster": alexnet}

    def run(name, parameters=None, **options):
        found[name] = alexnet.run(compiled, parameters, **options)
        found[name].served = sorted(path.name for path in (volume / "serving/shapes10").glob("[0-9]*"))
        failed = {key: task.log[-3000:] for key, task in found[name].tasks.items() if task.state == "failed"}
        assert not failed, f"{name}: {failed}"

    def kill_when_an_epoch_is_saved(name, attempt, process):
        if name == "Trainer" and attempt == 1:
            while process.poll() is None and not list((volume / "checkpoints").glob("*/state.npz")):
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)

    run("first")
    run("again")
    run("failing gate", {"min_accuracy": 1.0})
    run("killed", {"epochs": 6}, tasks=UP_TO_TRAINER, started=kill_when_an_epoch_is_saved)
    return found


def states(run):
    return {name: task.state for name, task in run.tasks.items()}


def report_of(runs, name):
    uri = runs[name].tasks["EvaluationReport"].outputs["report"]["uri"]
    return schema.Report.model_validate_json((runs["cluster"].path(uri) / build.REPORT).read_bytes())


@pytest.mark.slow
def test_the_first_run_has_no_baseline_and_pushes(runs, volume):
    assert set(states(runs["first"]).values()) == {"succeeded"}
    (version,) = runs["first"].served
    assert (volume / "serving/shapes10" / version / "saved_model.pb").is_file()
    assert report_of(runs, "first").evaluation.baseline_accuracy is None
    assert "baseline_model" not in runs["first"].tasks["Evaluator"].outputs["blessing"]["metadata"]


@pytest.mark.slow
def test_the_second_run_is_compared_with_what_the_first_pushed(runs):
    report = report_of(runs, "again")
    assert report.evaluation.baseline_accuracy == pytest.approx(report_of(runs, "first").evaluation.accuracy)
    assert len(report.history) == 2
    assert [found.what for found in report.data.distributions] == ["skew", "drift"]


@pytest.mark.slow
def test_a_run_that_is_started_twice_pushes_once(runs):
    assert states(runs["again"])["Trainer"] == "cached"
    assert states(runs["again"])["Pusher"] == "succeeded"
    assert runs["again"].served == runs["first"].served
    pushed = [runs[name].tasks["Pusher"].outputs["pushed_model"]["metadata"] for name in ("first", "again")]
    assert pushed[0]["pushed_version"] == pushed[1]["pushed_version"]


@pytest.mark.slow
def test_a_parameter_of_a_run_makes_a_gate_fail(runs):
    failing = runs["failing gate"]
    assert failing.state == "succeeded"
    assert failing.tasks["Evaluator"].outputs["blessing"]["metadata"]["blessed"] == 0
    assert failing.tasks["Pusher"].outputs["pushed_model"]["metadata"]["pushed"] == 0
    assert failing.served == runs["first"].served
    report = report_of(runs, "failing gate")
    assert report.settings["gates"]["min_accuracy"] == 1
    assert "gates.min_accuracy" in report.verdict.sentence


@pytest.mark.slow
def test_a_killed_trainer_continues_from_its_checkpoint(runs, volume):
    trainer = runs["killed"].tasks["Trainer"]
    assert (trainer.state, trainer.attempts) == ("succeeded", 2)
    assert "0 of 6 epochs done" not in trainer.log
    assert "of 6 epochs done" in trainer.log
    history = json.loads((runs["cluster"].path(trainer.outputs["model_run"]["uri"]) / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert list((volume / "checkpoints").glob("*")) == []


@pytest.mark.slow
def test_kfps_user_interface_gets_the_report_and_the_numbers(runs):
    outputs = runs["first"].tasks["ShowReport"].outputs
    report = report_of(runs, "first")
    assert "<html" in runs["cluster"].path(outputs["page"]["uri"]).read_text()
    assert outputs["metrics"]["metadata"]["accuracy"] == pytest.approx(report.evaluation.accuracy)
    matrix = outputs["classification"]["metadata"]["confusionMatrix"]["struct"]
    assert [row["row"] for row in matrix["rows"]] == report.evaluation.confusion_matrix
    assert [label["displayName"] for label in matrix["annotationSpecs"]] == report.evaluation.class_names


@pytest.mark.slow
def test_trainer_uses_what_a_search_found(runs, volume):
    changes = ["tuner.trials=2", "tuner.epochs=1", "training.epochs=1", f"kubeflow.volume_path={volume}"]
    chosen = settings.load(overrides=[*SMALL, *changes], **{"data.source": "shapes10/small"})
    run = runs["cluster"].run(kubeflow_runner.compile(chosen), tasks=UP_TO_TRAINER | {"Tuner"})
    assert states(run)["Tuner"] == states(run)["Trainer"] == "succeeded", run.tasks["Tuner"].log[-3000:]
    found, used = (
        json.loads((runs["cluster"].path(run.tasks[node].outputs[key]["uri"]) / file).read_text())
        for node, key, file in (
            ("Tuner", "best_hyperparameters", "best_hyperparameters.txt"),
            ("Trainer", "model_run", "recipe.json"),
        )
    )
    assert used["training"]["learning_rate"] == found["values"]["training.learning_rate"]
    assert list((volume / "checkpoints").glob("*")) == []
