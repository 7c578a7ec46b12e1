"""What `alexnet robustness` does: judges the model of a run on harmed examples, and adds that to the run's report."""

from __future__ import annotations

import logging
import pathlib
import tempfile
from collections.abc import Mapping

from core import settings
from core.errors import UserError
from core.workdir import Workdir
from review import run_report
from review.report import schema

SPLIT = "test"


def judge(workdir: Workdir, found: Mapping, kinds: tuple[str, ...], examples: int) -> schema.Corruptions:
    """Evaluates the model of a run on harmed test examples, and writes the run's report with what came out.

    Args:
        workdir: where the run is.
        found: its results.
        kinds: of harm, see `settings.Evaluation.corruptions`.
        examples: how many are harmed, about; 0: all.

    Raises:
        UserError: the model or the examples are gone.
    """
    chosen = settings.load(str(workdir.run(found["run"]) / "settings.yaml"))
    model, split = _places(found)
    import apache_beam as beam  # slow, as is all that follows
    import tensorflow as tf
    from apache_beam.io import tfrecordio

    from components import robustness

    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger().setLevel(logging.ERROR)
    plan = robustness.Plan(
        kinds,
        examples,
        chosen.preprocessing.image_size,
        fit=chosen.preprocessing.fit,
        background=chosen.data.background,
    )
    files = [str(file) for file in sorted(split.iterdir())]
    compression = "GZIP" if files[0].endswith(".gz") else ""
    total = sum(1 for _ in tf.data.TFRecordDataset(files, compression))
    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline() as pipeline:
            read = pipeline | tfrecordio.ReadFromTFRecord(str(split / "*"))
            _ = read | robustness.Evaluate(plan, total, str(model), folder)
        measured = robustness.load(folder)
    if measured is None:
        raise RuntimeError("TFMA measured nothing")
    records = tf.data.TFRecordDataset(files, compression).take(1).as_numpy_iterator()
    made = schema.Corruptions(**measured, picture=robustness.PICTURE)
    run_report.add_corruptions(workdir, found, made, robustness.picture(next(records), plan))
    return made


def _places(found: Mapping) -> tuple[pathlib.Path, pathlib.Path]:
    """The model that was evaluated, and the folder of the examples' split."""
    examples = next((one["uri"] for one in found.get("lineage") or () if one["name"] == "examples"), None)
    if not examples or not found.get("model"):
        raise UserError(f"Run {found['run']} did not reach EvaluationReport: run the pipeline to its end.")
    model, split = pathlib.Path(found["model"]), pathlib.Path(examples, f"Split-{SPLIT}")
    for path in (model, split):
        if not path.is_dir():
            raise UserError(f"{path}, from run {found['run']}, is no longer there: run the pipeline again.")
    return model, split
