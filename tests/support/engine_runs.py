"""Runs of the whole pipeline on a real Flink or Spark, and comparisons of what two runs made."""

import collections
import dataclasses
import os
import pathlib
import subprocess
import time

import command_line
import image_data
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_metadata.proto.v0 import statistics_pb2

from benchmarks import clusters
from core.events import Reader
from core.workdir import Workdir
from environment import job_server
from review import predictions

CHANGES = [*image_data.SMALL, "training.epochs=1"]
SPLITS = ("train", "validation", "test")


def need(engine):
    """Ends the test here if the cluster or its job server is not on this machine."""
    reason = clusters.missing(engine)
    if not reason and not job_server.ENGINES[engine].jar.exists():
        reason = f"{job_server.ENGINES[engine].jar} is missing: .ci/engines {engine} builds it"
    if reason and engine in os.environ.get("REQUIRE_ENGINES", "").split():
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def command(workdir, changes, *options):
    """Of `alexnet run`."""
    arguments = ["--data", "shapes10/small", "--workdir", str(workdir), *options]
    return [command_line.ALEXNET, "run", *arguments, *command_line.sets([*CHANGES, *changes])]


def run(workdir, changes, *options):
    """Results of a run that must succeed."""
    done = subprocess.run(command(workdir, changes, *options), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Workdir(workdir).find()


def run_and_disturb(workdir, changes, node, disturb):
    """Starts a run and calls `disturb`, once `node` runs, until it returns true; returns exit code and what was said.

    Args:
        disturb: must be quick; the test fails if the node has ended before it does what it shall.
    """
    log = pathlib.Path(workdir).with_suffix(".log")
    with log.open("w") as said, subprocess.Popen(command(workdir, changes), stdout=said, stderr=said) as process:
        try:
            states, disturbed = {}, False
            while not disturbed and process.poll() is None and states.get(node) in (None, "running"):
                for file in Workdir(workdir).runs.glob("*/events.jsonl"):
                    states |= {
                        event["node"]: event["state"] for event in Reader(file).new() if event["kind"] == "node"
                    }
                disturbed = states.get(node) == "running" and disturb()
                time.sleep(0.05)
            process.wait()
        finally:
            process.kill()
    assert disturbed, f"{node} ended before it could be disturbed:\n{log.read_text()}"
    return process.returncode, log.read_text()


def artifact(workdir, node, name):
    """The folder of what a node made last."""
    return max((Workdir(workdir).artifacts("shapes10") / node / name).iterdir(), key=lambda path: int(path.name))


def records(folder, compression=""):
    """Split -> how often it has each record: its features and their values."""
    found = {}
    for split in SPLITS:
        files = (
            sorted(map(str, (folder / f"Split-{split}").iterdir())) if (folder / f"Split-{split}").exists() else []
        )
        read = tf.data.TFRecordDataset(files, compression).as_numpy_iterator()
        found[split] = collections.Counter(map(_features, read))
    return found


def _features(record):
    """The features of a tf.Example as something that can be counted, whatever their order."""
    features = tf.train.Example.FromString(record).features.feature
    return frozenset((name, value.SerializeToString(deterministic=True)) for name, value in features.items())


def statistics(folder):
    """Split -> feature -> statistics, without what depends on the order of values that occur equally often."""
    found = {}
    for split in SPLITS:
        read = statistics_pb2.DatasetFeatureStatisticsList()
        read.ParseFromString((folder / f"Split-{split}/FeatureStats.pb").read_bytes())
        (dataset,) = json_format.MessageToDict(read)["datasets"]
        features = {"/".join(feature["path"]["step"]): feature for feature in dataset.pop("features")}
        for feature in features.values():
            if feature.get("stringStats", {}).get("unique") == dataset["numExamples"]:
                del feature["stringStats"]["rankHistogram"], feature["stringStats"]["topValues"]
        found[split] = {**dataset, "features": features}
    return found


@dataclasses.dataclass
class Made:
    """What an engine and this process made of the same data.

    Attributes:
        engine: results of the whole run on the engine, in `work`.
        again: results of a run in `work` that evaluated the same model in this process.
        work: the working directory of both.
        direct: the working directory of a run in this process up to Transform.
    """

    engine: dict
    again: dict
    work: pathlib.Path
    direct: pathlib.Path


def make(folder, changes):
    """Runs the pipeline in `folder`/work with the changes, which set the engine, and the rest in this process."""
    work, direct = folder / "work", folder / "direct"
    engine = run(work, changes)
    # Trainer takes the examples in the order of the files, which is another: the same model is evaluated again.
    again = run(work, [], "--from", "Evaluator", "--to", "EvaluationReport", "--fresh")
    run(direct, [], "--to", "Transform")
    return Made(engine, again, work, direct)


def same_examples(made):
    one, other = (records(artifact(work, "ImageExampleGen", "examples")) for work in (made.work, made.direct))
    assert one == other
    assert all(one.values())


def same_statistics(made):
    assert_close(*(statistics(artifact(work, "StatisticsGen", "statistics")) for work in (made.work, made.direct)))


def same_transformed_examples(made):
    one, other = (
        records(artifact(work, "Transform", "transformed_examples"), "GZIP") for work in (made.work, made.direct)
    )
    assert one == other
    assert one["train"]


def same_predictions(made):
    tables = [predictions.read(result["evaluation"]["path"]) for result in (made.engine, made.again)]
    assert list(tables[0]["id"]) == list(tables[1]["id"])
    assert tables[0]["id"].is_unique
    for column in tables[0]:
        first, second = (np.array(table[column].tolist()) for table in tables)
        if first.dtype.kind == "f":
            np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6, err_msg=column)
        else:
            np.testing.assert_array_equal(first, second, err_msg=column)


def same_measures_and_gates(made):
    evaluations = [{**result["evaluation"], "path": None} for result in (made.engine, made.again)]
    for evaluation in evaluations:
        evaluation["gates"].sort(key=lambda gate: gate["what"])  # TFMA gives them in any order
    assert_close(*evaluations)


COMPARISONS = (same_examples, same_statistics, same_transformed_examples, same_predictions, same_measures_and_gates)


def assert_close(one, other, where=""):
    """Numbers may differ by rounding, which depends on how the examples were grouped; all else is the same."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_close(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_close(*pair, f"{where}/{number}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6), where
    else:
        assert one == other, where
