"""What evaluating and reporting cost, against plain TFMA with one metric and no slices.

    python -m benchmarks.evaluation [--workdir DIR] [--run ID] [--examples N] [--repeats N] [--json FILE]

Takes the model and the test examples of a finished run, as many times over as it needs N of them. The first
evaluation of the process, which also loads what all share, is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2
from tfx.orchestration import metadata
from tfx.types import Artifact, artifact_utils
from tfx_bsl.tfxio import tf_example_record

from benchmarks import machine, report
from components import evaluation, evaluation_report, evaluator, records
from core import settings
from core.workdir import Workdir
from pipeline import lineage
from review.report import build
from trainer import features

INPUTS = {
    "evaluation": ("Evaluator", "evaluation"),
    "blessing": ("Evaluator", "blessing"),
    "infra_blessing": ("ServingCheck", "blessing"),
    "examples": ("ImageExampleGen", "examples"),
    "model": ("Trainer", "model"),
    "model_run": ("Trainer", "model_run"),
    "anomalies": ("ExampleValidator", "anomalies"),
    "distribution": ("DataCheck", "distribution"),
}


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints a table; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="workdir")
    parser.add_argument("--run", default=None)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", default=None)
    asked = parser.parse_args(arguments)
    about = machine.describe()
    workdir = Workdir(asked.workdir)
    found = workdir.find(asked.run, evaluated=True)
    given = inputs(workdir, found["run"])
    chosen = settings.load(str(workdir.run(found["run"]) / "settings.yaml"))
    model = os.path.join(given["model"].uri, "Format-Serving")
    with tempfile.TemporaryDirectory() as folder:
        given["examples"] = replicate(given["examples"], asked.examples, pathlib.Path(folder))
        source = os.path.join(artifact_utils.get_split_uri([given["examples"]], "test"), "*")

        def plain(output: str) -> None:
            run_plain(source, model, output)

        def ours(output: str, baseline: str | None = None) -> None:
            run_ours(source, model, baseline, output, chosen)

        def with_baseline(output: str) -> None:
            ours(output, model)
            given["evaluation"].uri = output

        def write_report(output: str) -> None:
            made, files = evaluation_report.gather(given, chosen, None, None)
            evaluation_report.write(output, made, files)
            sizes["report.html"] = os.path.getsize(os.path.join(output, build.PAGE))

        sizes: dict[str, int] = {}
        kinds: dict[str, Callable[[str], None]] = {
            "plain TFMA: accuracy, no slices": plain,
            "Evaluator, first run": ours,
            "Evaluator, with a baseline": with_baseline,
            "EvaluationReport": write_report,
        }
        plain(os.path.join(folder, "warm"))
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for number, (name, function) in itertools.product(range(asked.repeats), kinds.items()):
            start = time.perf_counter()
            function(os.path.join(folder, f"{number} {name}"))
            seconds[name].append(time.perf_counter() - start)
            print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    write(asked, about, found["run"], seconds, sizes)


def write(
    asked: argparse.Namespace, about: dict, run: str, seconds: dict[str, list[float]], sizes: dict[str, int]
) -> None:
    """Prints the table, and writes the JSON file."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    plain = next(iter(medians.values()))
    total = medians["Evaluator, with a baseline"] + medians["EvaluationReport"]
    shown = {**medians, "Evaluator with a baseline and EvaluationReport": total}
    result = {
        "benchmark": "evaluation",
        "machine": about,
        "run": run,
        "examples": asked.examples,
        "seconds": seconds,
        "ratio": total / plain,
        "report_bytes": sizes["report.html"],
        "tables": [
            {
                "title": f"{asked.examples:,} test examples, median of {asked.repeats}; "
                f"report.html has {sizes['report.html'] / 1e6:.1f} MB",
                "columns": ["what", "seconds", "of plain TFMA"],
                "rows": [[name, f"{value:.1f}", f"{value / plain:.2f}"] for name, value in shown.items()],
            }
        ],
    }
    report.show(result)
    if asked.json:
        pathlib.Path(asked.json).write_text(json.dumps(result, indent=1))


def run_plain(source: str, model: str, output: str) -> None:
    """TFMA alone, as its tutorials call it."""
    config = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(signature_name=features.EVALUATION_SIGNATURE, label_key=features.LABEL)],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[
            config_pb2.MetricsSpec(metrics=[config_pb2.MetricConfig(class_name="SparseCategoricalAccuracy")])
        ],
    )
    shared = tfma.default_eval_shared_model(eval_saved_model_path=model, eval_config=config)
    with beam.Pipeline(argv=settings.Beam().arguments) as pipeline:
        _ = (
            pipeline
            | _records(source)
            | tfma.ExtractEvaluateAndWriteResults(eval_shared_model=shared, eval_config=config, output_path=output)
        )


def run_ours(source: str, model: str, baseline: str | None, output: str, chosen: settings.Settings) -> None:
    """What the Evaluator component does."""
    config = evaluation.eval_config(chosen.gates, chosen.evaluation)
    with beam.Pipeline(argv=chosen.beam.arguments) as pipeline:
        _ = pipeline | _records(source) | evaluator.evaluate(config, model, baseline, output)


def _records(source: str) -> beam.PTransform:
    column = tfma.constants.ARROW_INPUT_COLUMN
    return tf_example_record.TFExampleRecord([source], raw_record_column_name=column).BeamSource()


def inputs(workdir: Workdir, run_id: str) -> dict[str, Artifact]:
    """The inputs of EvaluationReport, as artifacts."""
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(workdir.metadata))) as handle:
        made = lineage.artifacts(handle.store, run_id)
        found = {}
        for key, (node, output) in INPUTS.items():
            artifact = made[node][output]
            (kind,) = handle.store.get_artifact_types_by_id([artifact.type_id])
            found[key] = artifact_utils.deserialize_artifact(kind, artifact)
            found[key].uri = workdir.absolute(artifact.uri)
        return found


def replicate(examples: Artifact, count: int, folder: pathlib.Path) -> Artifact:
    """The test split over and over until there are `count` examples, each with an id of its own."""
    split = folder / "examples" / "Split-test"
    split.mkdir(parents=True)
    (split.parent / "ingest.json").write_bytes(pathlib.Path(examples.uri, "ingest.json").read_bytes())
    read = list(records.read(examples, "test"))
    with tf.io.TFRecordWriter(str(split / "data.tfrecord")) as writer:
        for number, record in zip(range(count), itertools.cycle(read), strict=False):
            example = tf.train.Example.FromString(record)
            example.features.feature[features.ID].bytes_list.value[0] = b"%06d" % number
            writer.write(example.SerializeToString())
    examples.uri = str(split.parent)
    return examples


if __name__ == "__main__":
    main()
