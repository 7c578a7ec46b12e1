"""What Evaluator is told to measure, and reading what it measured. TFMA is the source of every number."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from pipeline import settings
from trainer import features

CANDIDATE, BASELINE = "candidate", "baseline"
ACCURACY, LOSS, TOP, MATRIX = "accuracy", "loss", "top_3_accuracy", "confusion_matrix"


def eval_config(gates: settings.Gates) -> config_pb2.EvalConfig:
    """The metrics, the slices and all gates, so that the blessing is TFX's own."""
    accuracy = config_pb2.MetricConfig(
        class_name="SparseCategoricalAccuracy",
        config=f'"name": "{ACCURACY}"',
        per_slice_thresholds=[
            _gate(config_pb2.SlicingSpec(), gates.min_accuracy, gates.max_accuracy_drop),
            # Within the slice of a true class, accuracy is that class's recall.
            _gate(
                config_pb2.SlicingSpec(feature_keys=[features.CLASS_NAME]),
                gates.min_class_recall,
                gates.max_class_recall_drop,
            ),
        ],
    )
    others = [
        config_pb2.MetricConfig(class_name="ExampleCount"),
        config_pb2.MetricConfig(class_name="SparseCategoricalCrossentropy", config=f'"name": "{LOSS}"'),
        config_pb2.MetricConfig(class_name="SparseTopKCategoricalAccuracy", config=f'"name": "{TOP}", "k": 3'),
        config_pb2.MetricConfig(class_name="MultiClassConfusionMatrixPlot", config=f'"name": "{MATRIX}"'),
    ]
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
        slicing_specs=[config_pb2.SlicingSpec(), config_pb2.SlicingSpec(feature_keys=[features.CLASS_NAME])],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[accuracy, *others])],
    )


def _gate(where: config_pb2.SlicingSpec, floor: float, drop: float) -> config_pb2.PerSliceMetricThreshold:
    threshold = config_pb2.MetricThreshold()
    threshold.value_threshold.lower_bound.value = floor
    threshold.change_threshold.direction = config_pb2.MetricDirection.HIGHER_IS_BETTER
    threshold.change_threshold.absolute.value = -drop
    return config_pb2.PerSliceMetricThreshold(slicing_specs=[where], threshold=threshold)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The measurements of one model on the test split.

    Attributes:
        count: test examples.
        accuracy, loss, top_3_accuracy: over all of them; loss in nats.
        recalls: class name -> accuracy within the slice of that true class.
        counts: class name -> its test examples.
        matrix: [true class][predicted class] counts, by label.
    """

    count: int
    accuracy: float
    loss: float
    top_3_accuracy: float
    recalls: dict[str, float]
    counts: dict[str, int]
    matrix: list[list[int]]


def load(path: str, model: str = CANDIDATE) -> Evaluation | None:
    """Reads an Evaluator's result; None if `model` is not in it (a first run has no baseline)."""
    result = tfma.load_eval_result(path, model_name=model)
    if not result.slicing_metrics and model == CANDIDATE:
        result = tfma.load_eval_result(path)  # a model that was evaluated alone has no name there
    if not result.slicing_metrics:
        return None
    recalls, counts, overall = {}, {}, {}
    for slice_key, outputs in result.slicing_metrics:
        values = {name: _number(value) for name, value in outputs[""][""].items()}
        if slice_key:
            recalls[slice_key[0][1]] = values[ACCURACY]
            counts[slice_key[0][1]] = int(values["example_count"])
        else:
            overall = values
    plots = next(outputs for slice_key, outputs in result.plots if not slice_key)
    return Evaluation(
        count=int(overall["example_count"]),
        accuracy=overall[ACCURACY],
        loss=overall[LOSS],
        top_3_accuracy=overall[TOP],
        recalls=recalls,
        counts=counts,
        matrix=_matrix(plots[""][""]),
    )


def _number(value: Mapping) -> float:
    return float(next((v for k, v in value.items() if k in ("doubleValue", "boundedValue")), float("nan")))


def _matrix(plots: Mapping) -> list[list[int]]:
    entries = plots["multiClassConfusionMatrixAtThresholds"]["matrices"][0]["entries"]
    cells = {
        (int(e.get("actualClassId", 0)), int(e.get("predictedClassId", 0))): round(float(e["numWeightedExamples"]))
        for e in entries
    }
    size = 1 + max(max(pair) for pair in cells)
    return [[cells.get((true, predicted), 0) for predicted in range(size)] for true in range(size)]
