"""What Evaluator is told to measure, and reading what it measured. TFMA is the source of every number."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from components import robustness, tfma_metrics
from components.evaluator import BASELINE, CANDIDATE, CORRUPTED, UNCALIBRATED
from components.tfma_metrics import configured, number
from core import settings
from core.near_duplicates import NearDuplicate
from core.repeated import Repeated
from review import duplicates, near_duplicates, predictions
from trainer import features

ACCURACY, LOSS, TOP, MATRIX = "accuracy", "loss", "top_3_accuracy", "confusion_matrix"
AUC, CALIBRATION, CALIBRATION_ERROR = "auc", "calibration", "calibration_error"
GAIN, HIGHEST = "gain_over_largest_class", "highest_accuracy"
LEAST = 1e-9  # what is more than none: TFMA's bounds pass what is equal


def eval_config(gates: settings.Gates, evaluation: settings.Evaluation) -> config_pb2.EvalConfig:
    """The metrics, the slices and all gates, so that the blessing is TFX's own."""
    everywhere, by_class = config_pb2.SlicingSpec(), config_pb2.SlicingSpec(feature_keys=[features.CLASS_NAME])
    by_interval = gates.min_class_recall is not None and gates.confidence > 0
    class_floor = None if by_interval else LEAST if gates.min_class_recall is None else gates.min_class_recall
    accuracy = configured(tfma_metrics.Accuracy, ACCURACY)
    accuracy.per_slice_thresholds.extend(
        [
            _gate(everywhere, gates.min_accuracy, gates.max_accuracy_drop),
            # Within the slice of a true class, accuracy is that class's recall.
            _gate(by_class, class_floor, gates.max_class_recall_drop),
        ]
    )
    in_slices = [
        accuracy,
        configured(tfma_metrics.Count, "example_count"),
        configured(tfma_metrics.CrossEntropy, LOSS),
    ]
    if gates.min_accuracy is None:
        in_slices.append(configured(tfma_metrics.GainOverLargest, GAIN))
        in_slices[-1].per_slice_thresholds.append(_gate(everywhere, LEAST))
    if by_interval:
        in_slices.append(configured(tfma_metrics.HighestAccuracy, HIGHEST, confidence=gates.confidence))
        in_slices[-1].per_slice_thresholds.append(_gate(by_class, gates.min_class_recall))
    overall = [
        configured(tfma_metrics.TopAccuracy, TOP, k=3),
        configured(tfma_metrics.ConfusionMatrix, MATRIX),
        configured(tfma_metrics.OneVersusRestAUC, AUC),
        configured(tfma_metrics.TopLabelCalibration, CALIBRATION),
    ]
    error = configured(tfma_metrics.ExpectedCalibrationError, CALIBRATION_ERROR)
    if gates.max_calibration_error is None:
        overall.append(error)
    else:  # TFMA judges what it measures in slices
        threshold = config_pb2.MetricThreshold()
        threshold.value_threshold.upper_bound.value = gates.max_calibration_error
        error.per_slice_thresholds.add(slicing_specs=[config_pb2.SlicingSpec()], threshold=threshold)
        in_slices.append(error)
    slices = [(), (features.CLASS_NAME,), *(tuple(names.split(",")) for names in evaluation.slices)]
    models = [
        config_pb2.ModelSpec(
            name=name,
            signature_name=features.EVALUATION_SIGNATURE,
            label_key=features.LABEL,
            is_baseline=name == BASELINE,
        )
        for name in (CANDIDATE, BASELINE)
    ]
    return config_pb2.EvalConfig(
        model_specs=models,
        slicing_specs=[config_pb2.SlicingSpec(feature_keys=names) for names in slices],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics) for metrics in (in_slices, overall)],
    )


def _gate(
    where: config_pb2.SlicingSpec, floor: float | None = None, drop: float | None = None
) -> config_pb2.PerSliceMetricThreshold:
    threshold = config_pb2.MetricThreshold()
    if floor is not None:
        threshold.value_threshold.lower_bound.value = floor
    if drop is not None:
        threshold.change_threshold.direction = config_pb2.MetricDirection.HIGHER_IS_BETTER
        threshold.change_threshold.absolute.value = -drop
    return config_pb2.PerSliceMetricThreshold(slicing_specs=[where], threshold=threshold)


@dataclasses.dataclass(frozen=True)
class Slice:
    """The measurements in one slice: value of each feature -> the value that its examples have in common."""

    values: dict[str, str]
    count: int
    accuracy: float
    loss: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The measurements of one model on the test split.

    Attributes:
        count: test examples.
        accuracy, loss, top_3_accuracy: over all of them; loss in nats. Of a baseline there is no top_3_accuracy, and
            nothing of matrix, auc and calibration.
        recalls: class name -> accuracy within the slice of that true class.
        counts: class name -> its test examples.
        matrix: [true class][predicted class] counts, by label.
        auc: area under the ROC curve of each class against the rest, by label; NaN where there is none.
        calibration: (examples, sum of the highest probability, right ones) in equal bins of that probability.
        calibration_error: over these bins; None in evaluations of before TFMA was asked for it.
        uncalibrated: of the model without its temperature, {"temperature", "loss", "calibration"}; None without one.
        slices: all other slices.
    """

    count: int
    accuracy: float
    loss: float
    top_3_accuracy: float
    recalls: dict[str, float]
    counts: dict[str, int]
    matrix: list[list[int]]
    auc: list[float]
    calibration: list[list[float]]
    calibration_error: float | None
    uncalibrated: dict[str, Any] | None
    slices: list[Slice]


def load(path: str, model: str = CANDIDATE) -> Evaluation | None:
    """Reads an Evaluator's result; None if `model` is not in it (a first run has no baseline)."""
    result = tfma.load_eval_result(path, model_name=model)
    if not result.slicing_metrics and model == CANDIDATE:
        result = tfma.load_eval_result(path)  # a model that was evaluated alone has no name there
    if not result.slicing_metrics:
        return None
    found = {slice_key: outputs[""][""] for slice_key, outputs in result.slicing_metrics}
    overall = found.pop(())
    by_class, others = {}, []
    for slice_key, values in found.items():
        names = {name: value if isinstance(value, str) else str(value) for name, value in slice_key}
        part = Slice(
            names,
            round(number(values["example_count"])),
            number(values[ACCURACY]),
            number(values[LOSS]),
        )
        if list(names) == [features.CLASS_NAME]:
            by_class[names[features.CLASS_NAME]] = part
        else:
            others.append(part)
    error = number(overall.get(CALIBRATION_ERROR, {}))
    *bins, loss, temperature = _array(overall[UNCALIBRATED]) if UNCALIBRATED in overall else (math.nan, math.nan)
    return Evaluation(
        count=round(number(overall["example_count"])),
        accuracy=number(overall[ACCURACY]),
        loss=number(overall[LOSS]),
        top_3_accuracy=number(overall.get(TOP, {})),
        recalls={name: part.accuracy for name, part in by_class.items()},
        counts={name: part.count for name, part in by_class.items()},
        matrix=_square(_array(overall.get(MATRIX, {}))),
        auc=_array(overall.get(AUC, {})).tolist(),
        calibration=_bins(_array(overall.get(CALIBRATION, {}))),
        calibration_error=None if math.isnan(error) else error,
        uncalibrated={"temperature": float(temperature), "loss": float(loss), "calibration": _bins(bins)}
        if bins
        else None,
        slices=others,
    )


def measured(
    path: str, pictures: Sequence[Repeated] = (), near: Sequence[NearDuplicate] = ()
) -> dict[str, dict | str | None]:
    """An Evaluator's result as plain data.

    Args:
        path: of the result.
        pictures: that several examples have, from `records.duplicates`.
        near: examples that are nearly pictures of an earlier split, from `records.near_duplicates`.

    Returns:
        "candidate" and "baseline", as `Evaluation` or None, "evaluation", the path, "without_leaked" as from
        `duplicates.kept`, "without_near" as from `near_duplicates.kept`, and "corruptions" as from `robustness.load`.
    """
    loaded = {name: load(path, name) for name in (CANDIDATE, BASELINE)}
    remaining, without_near = None, None
    if near or any(picture.leaked("test") for picture in pictures):
        with contextlib.suppress(FileNotFoundError):  # an older evaluation kept no predictions
            table = predictions.read(path)
            remaining = duplicates.kept(table, pictures)
            without_near = near_duplicates.kept(table, near, pictures)
    return {name: dataclasses.asdict(found) if found else None for name, found in loaded.items()} | {
        "evaluation": path,
        "without_leaked": remaining,
        "corruptions": robustness.load(os.path.join(path, CORRUPTED)),
        "without_near": without_near,
    }


def _array(value: Mapping) -> np.ndarray:
    return np.array(value.get("arrayValue", {}).get("float64Values", []), float)


def _bins(flat: Sequence[float] | np.ndarray) -> list[list[float]]:
    return np.reshape(flat, (-1, 3)).tolist()


def _square(flat: np.ndarray) -> list[list[int]]:
    size = math.isqrt(len(flat))
    return np.rint(flat.reshape(size, size)).astype(int).tolist()
