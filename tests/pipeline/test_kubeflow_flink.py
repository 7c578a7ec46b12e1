"""The Beam nodes of the compiled pipeline on a real Flink cluster, in the harness."""

import contextlib
import os
import signal
import subprocess
import time

import image_data
import psutil
import pytest

from benchmarks import clusters
from core import processes, settings
from engines.flink import FAST, NEEDED
from kubeflow.harness import Cluster
from pipeline import kubeflow_runner

pytestmark = pytest.mark.slow
SERVICE = "alexnet-flink-rest:8081"  # what it is called in a cluster, and compiled
BEAM_NODES = {"ImageExampleGen", "StatisticsGen", "Transform", "Evaluator"}
SMALL = [
    *image_data.SMALL,
    "training.epochs=1",
    "kubeflow.retries=0",
    "kubeflow.nodes={ImageExampleGen: {cache: true}, ImageSchemaGen: {cache: true}}",
    "kubeflow.beam_runner=FlinkRunner",
    f"kubeflow.beam_master={SERVICE}",
]


@pytest.fixture(scope="module")
def flink(tmp_path_factory):
    if (reason := clusters.missing("flink")) and "flink" not in os.environ.get("REQUIRE_ENGINES", ""):
        pytest.skip(reason)
    with clusters.Flink(tmp_path_factory.mktemp("flink"), options=NEEDED | FAST) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def workers():
    """The address of the pool of workers that stands beside the TaskManagers, as the sidecar does."""
    command = processes.module("engines.workers", "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pool:
        yield pool.stdout.readline().strip()
        pool.terminate()


@pytest.fixture(scope="module")
def compiled(flink, workers, volume):
    """Compiles the pipeline, with changes, and leads it to the cluster that is here."""

    def compile(*changes):
        places = (f"kubeflow.volume_path={volume}", f"kubeflow.beam_workers={workers}")
        chosen = settings.load(overrides=[*SMALL, *places, *changes], **{"data.source": "shapes10/small"})
        return kubeflow_runner.compile(chosen).replace(SERVICE, flink.master)

    return compile


@pytest.fixture(scope="module")
def kubeflow(tmp_path_factory):
    return Cluster(tmp_path_factory.mktemp("kubeflow"))


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return tmp_path_factory.mktemp("volume")


def jobs(flink, node):
    """States of the jobs of a node, the oldest first."""
    found = sorted(flink.ask("jobs/overview")["jobs"], key=lambda job: job["start-time"])
    return [job["state"] for job in found if job["name"].endswith(f"-{node}")]


@pytest.fixture(scope="module")
def first(kubeflow, compiled):
    return kubeflow.run(compiled())


def test_the_whole_pipeline_runs_with_its_beam_nodes_on_flink(first, flink, kubeflow, volume):
    assert first.state == "succeeded", {name: task.log[-3000:] for name, task in first.tasks.items() if task.error}
    for node in BEAM_NODES:
        assert set(jobs(flink, node)) == {"FINISHED"}
        for key, made in first.tasks[node].outputs.items():
            if key != "executor-logs":
                assert list(kubeflow.path(made["uri"]).rglob("*")), (node, key)
    assert list((volume / "serving/shapes10").glob("*/saved_model.pb"))


def test_nothing_stays_on_the_volume(first, volume):
    assert list((volume / "beam").iterdir()) == []


def test_other_options_of_beam_run_nothing_anew(first, kubeflow, compiled):
    upstream = {"ImageExampleGen", "StatisticsGen", "ImageSchemaGen", "Transform"}
    again = kubeflow.run(compiled("kubeflow.beam_args=[--parallelism=1]"), tasks=upstream)
    assert {name: task.state for name, task in again.tasks.items()} == dict.fromkeys(upstream, "cached")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_what_an_ended_node_left_is_cancelled_and_removed(first, flink, kubeflow, compiled, volume, ending):
    again = "kubeflow.nodes={ImageExampleGen: {cache: true}, StatisticsGen: {cache: false, retries: 1}}"
    before = len(jobs(flink, "StatisticsGen"))

    def end(name, attempt, process):
        if name != "StatisticsGen" or attempt > 1:
            return
        while process.poll() is None and jobs(flink, name)[before:] != ["RUNNING"]:
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(ending)
        if ending == signal.SIGKILL:  # of all that is in the container
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()

    run = kubeflow.run(compiled(again), started=end, tasks={"ImageExampleGen", "StatisticsGen"})
    task = run.tasks["StatisticsGen"]
    assert (task.state, task.attempts) == ("succeeded", 2), task.log[-3000:]
    assert jobs(flink, "StatisticsGen")[before:] == ["CANCELED", "FINISHED"]
    assert list((volume / "beam").iterdir()) == []
