"""Our pipeline as on Kubeflow, in the harness, one process for each task: several runs on one volume."""

import datetime
import json
import signal
import time

import image_data
import pytest

from components.records import REPORT
from components.sources import fingerprint
from core import settings
from kubeflow.harness import Cluster
from pipeline import kubeflow_runner
from review.report import build, schema

pytestmark = pytest.mark.slow
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


def test_the_first_run_has_no_baseline_and_pushes(runs, volume):
    assert set(states(runs["first"]).values()) == {"succeeded"}
    (version,) = runs["first"].served
    assert (volume / "serving/shapes10" / version / "saved_model.pb").is_file()
    assert report_of(runs, "first").evaluation.baseline_accuracy is None
    assert "baseline_model" not in runs["first"].tasks["Evaluator"].outputs["blessing"]["metadata"]


def test_the_second_run_is_compared_with_what_the_first_pushed(runs):
    report = report_of(runs, "again")
    assert report.evaluation.baseline_accuracy == pytest.approx(report_of(runs, "first").evaluation.accuracy)
    assert len(report.history) == 2
    assert [found.what for found in report.data.distributions] == ["skew", "drift"]


def test_a_run_that_is_started_twice_pushes_once(runs):
    assert states(runs["again"])["Trainer"] == "cached"
    assert states(runs["again"])["Pusher"] == "succeeded"
    assert runs["again"].served == runs["first"].served
    pushed = [runs[name].tasks["Pusher"].outputs["pushed_model"]["metadata"] for name in ("first", "again")]
    assert pushed[0]["pushed_version"] == pushed[1]["pushed_version"]


def test_a_parameter_of_a_run_makes_a_gate_fail(runs):
    failing = runs["failing gate"]
    assert failing.state == "succeeded"
    assert failing.tasks["Evaluator"].outputs["blessing"]["metadata"]["blessed"] == 0
    assert failing.tasks["Pusher"].outputs["pushed_model"]["metadata"]["pushed"] == 0
    assert failing.served == runs["first"].served
    report = report_of(runs, "failing gate")
    assert report.settings["gates"]["min_accuracy"] == 1
    assert "gates.min_accuracy" in report.verdict.sentence


def test_a_killed_trainer_continues_from_its_checkpoint(runs, volume):
    trainer = runs["killed"].tasks["Trainer"]
    assert (trainer.state, trainer.attempts) == ("succeeded", 2)
    assert "0 of 6 epochs done" not in trainer.log
    assert "of 6 epochs done" in trainer.log
    history = json.loads((runs["cluster"].path(trainer.outputs["model_run"]["uri"]) / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert list((volume / "checkpoints").glob("*")) == []


def test_kfps_user_interface_gets_the_report_and_the_numbers(runs):
    outputs = runs["first"].tasks["ShowReport"].outputs
    report = report_of(runs, "first")
    assert "<html" in runs["cluster"].path(outputs["page"]["uri"]).read_text()
    assert outputs["metrics"]["metadata"]["accuracy"] == pytest.approx(report.evaluation.accuracy)
    matrix = outputs["classification"]["metadata"]["confusionMatrix"]["struct"]
    assert [row["row"] for row in matrix["rows"]] == report.evaluation.confusion_matrix
    assert [label["displayName"] for label in matrix["annotationSpecs"]] == report.evaluation.class_names


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


def test_scheduled_runs_read_the_data_anew_and_say_so(tmp_path):
    folder = image_data.write_folder(tmp_path / "pets")
    volume = f"kubeflow.volume_path={tmp_path}"
    chosen = settings.load(overrides=[*image_data.SMALL, volume], **{"data.source": str(folder)})
    text, cluster = kubeflow_runner.compile(chosen), Cluster(tmp_path / "cluster")

    def read(due):
        task = cluster.run(text, tasks={"ImageExampleGen"}, due=due).tasks["ImageExampleGen"]
        assert task.state == "succeeded", task.log[-3000:]
        return json.loads((cluster.path(task.outputs["examples"]["uri"]) / REPORT).read_text())

    due = datetime.datetime(2026, 11, 26, 3, tzinfo=datetime.UTC)
    first = read(due)
    before = fingerprint.data(settings.Data(source=str(folder)))
    (folder / "train/cat/000.png").unlink()
    second = read(due + datetime.timedelta(days=1))
    assert [one["due"] for one in (first, second)] == ["2026-11-26T03:00:00Z", "2026-11-27T03:00:00Z"]
    after = fingerprint.data(settings.Data(source=str(folder)))
    assert [one["fingerprint"] for one in (first, second)] == [before, after]
    assert before != after
