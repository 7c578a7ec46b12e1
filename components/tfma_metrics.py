"""Metrics in TFMA's own form that count arrays of examples, see `components.by_slice`.

Accuracy, cross-entropy and number of examples have the values of TFMA's own, which take one example at a time. The
others TFMA lacks: one-versus-rest AUC of every class, and top-label calibration.

TFMA computes an AUC per class too, but each class costs it as much as all other metrics together (7.9 s instead of
4.5 s for 10 classes and 5,000 examples), and its thresholds are spaced evenly over the probabilities, where a
confident network has nearly everything in the first and the last bucket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from review import gates, predictions

BUFFER = 1024  # examples that are kept as they are before they are counted together
STEPS, RANGE = 256, 20.0  # histogram of the log-odds: cells of 1/256 between -20 and 20
CELLS = int(2 * RANGE * STEPS) + 1
EPSILON = 1e-7  # Keras': probabilities are cut to this distance from 0 and 1 before their logarithm is taken
BINS = 15  # of confidence, as in Guo et al. 2017


def number(value: Mapping) -> float:
    """A number in a result of TFMA's, NaN where there is none."""
    return float(next((v for k, v in value.items() if k in ("doubleValue", "boundedValue")), float("nan")))


def configured(metric: type, name: str, **options: object) -> config_pb2.MetricConfig:
    """How a metric of this module is asked for in TFMA's EvalConfig."""
    config = json.dumps({"name": name, **options})[1:-1]
    return config_pb2.MetricConfig(class_name=metric.__name__, module=metric.__module__, config=config)


class Count(tfma.metrics.Metric):
    """The number of examples, as TFMA's ExampleCount."""

    def __init__(self, name: str = "example_count") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_Count)), name=name)


class Accuracy(tfma.metrics.Metric):
    """The share of the examples whose most probable class is the true one, as Keras' SparseCategoricalAccuracy."""

    def __init__(self, name: str = "accuracy") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_Accuracy)), name=name)


class CrossEntropy(tfma.metrics.Metric):
    """The mean cross-entropy in nats, as Keras' SparseCategoricalCrossentropy of probabilities."""

    def __init__(self, name: str = "loss") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_CrossEntropy)), name=name)


class TopAccuracy(tfma.metrics.Metric):
    """The share of the examples whose true class is among the k most probable ones, as Keras'
    SparseTopKCategoricalAccuracy: a class that is as probable as the k-th counts as among them.
    """

    def __init__(self, k: int, name: str = "top_k_accuracy") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_TopAccuracy)), name=name, k=k)


class ConfusionMatrix(tfma.metrics.Metric):
    """How many examples of each class were given which answer.

    The value is float64 [classes, classes], one row for a true class after the other in a flat array; the columns are
    the most probable classes.
    """

    def __init__(self, name: str = "confusion_matrix") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_ConfusionMatrix)), name=name)


class OneVersusRestAUC(tfma.metrics.Metric):
    """For each class, the area under the ROC curve of its probability: this class against all others.

    The value is float64 [classes], NaN for a class that has no example or nothing else; empty where all examples are
    of one class. It is the probability that an example of the class gets a higher
    probability than one of another class (Hanley and McNeil 1982); ties count half. Probabilities are compared to
    1/256 of their log-odds, so that memory does not grow with the examples.
    """

    def __init__(self, name: str = "auc") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_AUC)), name=name)


class ExpectedCalibrationError(tfma.metrics.Metric):
    """The mean distance of confidence from accuracy over `TopLabelCalibration`'s bins, float (Guo et al. 2017)."""

    def __init__(self, name: str = "calibration_error") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_CalibrationError)), name=name)


class HighestAccuracy(tfma.metrics.Metric):
    """The upper end of the Wilson interval of the accuracy, float: within a class, of its recall."""

    def __init__(self, confidence: float, name: str = "highest_accuracy") -> None:
        computations = tfma.metrics.merge_per_key_computations(_computations(_HighestAccuracy))
        super().__init__(computations, name=name, confidence=confidence)


class GainOverLargest(tfma.metrics.Metric):
    """By how much the accuracy exceeds what always answering the largest class would have, float in -1 to 1."""

    def __init__(self, name: str = "gain_over_largest_class") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_GainOverLargest)), name=name)


class Uncalibrated(tfma.metrics.Metric):
    """What `TopLabelCalibration` would be of a model without its temperature, to show what that did.

    The value is float64 [3 * bins + 2]: the flat array of `TopLabelCalibration`, the mean
    cross-entropy in nats, and T.
    """

    def __init__(self, temperature: float, name: str = "uncalibrated") -> None:
        computations = tfma.metrics.merge_per_key_computations(_computations(_Uncalibrated))
        super().__init__(computations, name=name, temperature=temperature)


class TopLabelCalibration(tfma.metrics.Metric):
    """How often the most probable class is right, by its probability: the data of a reliability diagram.

    The value is float64 [bins, 3], one after the other in a flat array: in each of 15 equal bins (low, high] of the
    highest probability, the number of examples, the sum of that probability, and how many were right (Guo et al.
    2017, On Calibration of Modern Neural Networks).
    """

    def __init__(self, name: str = "calibration") -> None:
        super().__init__(tfma.metrics.merge_per_key_computations(_computations(_Calibration)), name=name)


def _computations(combiner: Callable[..., _Combiner]) -> Any:
    def make(
        name: str, model_name: str = "", output_name: str = "", example_weighted: bool = False, **options: object
    ) -> list[tfma.metrics.MetricComputation]:
        key = tfma.metrics.MetricKey(
            name=name, model_name=model_name, output_name=output_name, example_weighted=example_weighted
        )
        return [tfma.metrics.MetricComputation(keys=[key], preprocessors=None, combiner=combiner(key, **options))]

    return make


class _Combiner(beam.CombineFn):
    """Collects labels and probabilities, and folds them into a state when there are enough.

    Inputs are those of one example, or of many: labels [n], probabilities [n, classes].
    """

    def __init__(self, key: tfma.metrics.MetricKey) -> None:
        self._key = key

    def create_accumulator(self) -> tuple[list, np.ndarray | None]:
        return [], None

    def add_input(self, accumulator: tuple, element: tfma.metrics.StandardMetricInputs) -> tuple:
        waiting, state = accumulator
        labels = np.ravel(element.get_labels(self._key.model_name, self._key.output_name))
        probabilities = element.get_predictions(self._key.model_name, self._key.output_name)
        waiting.append((labels, np.reshape(probabilities, (len(labels), -1))))
        if sum(len(labels) for labels, _ in waiting) < BUFFER:
            return accumulator
        return [], self._fold(waiting, state)

    def merge_accumulators(self, accumulators: list[tuple]) -> tuple:
        all_waiting, total = [], None
        for waiting, state in accumulators:
            all_waiting += waiting
            if state is not None:
                total = state if total is None else total + state
            if sum(len(labels) for labels, _ in all_waiting) >= BUFFER:
                all_waiting, total = [], self._fold(all_waiting, total)
        return all_waiting, total

    def extract_output(self, accumulator: tuple) -> dict[tfma.metrics.MetricKey, np.ndarray]:
        waiting, state = accumulator
        if waiting:
            state = self._fold(waiting, state)
        return {self._key: self.value(state)}

    def _fold(self, waiting: list, state: np.ndarray | None) -> np.ndarray:
        labels, probabilities = (np.concatenate(arrays) for arrays in zip(*waiting, strict=True))
        counted = self.count(labels, probabilities)
        return counted if state is None else state + counted

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """The state of some examples: labels int [n], probabilities float [n, classes]. States add up."""
        raise NotImplementedError

    def value(self, state: np.ndarray) -> np.ndarray:
        """The metric of a state."""
        raise NotImplementedError


class _Count(_Combiner):
    """State: float64 [1], the examples."""

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return np.array([float(len(labels))])

    def value(self, state: np.ndarray) -> Any:
        return float(state[0])


class _Mean(_Combiner):
    """State: float64 [2], the sum of a value of each example, and the examples."""

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        values = self.values(labels, probabilities)
        return np.array([values.sum(dtype=np.float64), len(values)])

    def values(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """What is averaged, [n]."""
        raise NotImplementedError

    def value(self, state: np.ndarray) -> Any:
        return float(state[0] / state[1])


class _Accuracy(_Mean):
    def values(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.argmax(axis=1) == labels


class _CrossEntropy(_Mean):
    def values(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
        return -np.log(p[np.arange(len(labels)), labels] / p.sum(axis=1))


class _TopAccuracy(_Mean):
    def __init__(self, key: tfma.metrics.MetricKey, k: int) -> None:
        super().__init__(key)
        self._k = k

    def values(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        own = probabilities[np.arange(len(labels)), labels]
        return np.isfinite(own) & ((probabilities > own[:, None]).sum(axis=1) < self._k)


class _ConfusionMatrix(_Combiner):
    """State: float64 [classes, classes]."""

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        classes = probabilities.shape[1]
        cells = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
        return np.bincount(cells, minlength=classes**2).astype(float).reshape(classes, classes)

    def value(self, state: np.ndarray) -> np.ndarray:
        return state.ravel()


class _AUC(_Combiner):
    """State: uint32 [2, classes, cells], examples of other classes and of the class by their log-odds."""

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        classes = probabilities.shape[1]
        p = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
        cells = np.rint((np.clip(np.log(p / (1 - p)), -RANGE, RANGE) + RANGE) * STEPS).astype(np.int64)
        of_class = labels[:, None] == np.arange(classes)
        index = (of_class * classes + np.arange(classes)) * CELLS + cells
        counts = np.bincount(index.ravel(), minlength=2 * classes * CELLS).astype(np.uint32)
        return counts.reshape(2, classes, CELLS)

    def value(self, state: np.ndarray) -> np.ndarray:
        totals = state.sum(axis=2, dtype=np.int64)
        if np.count_nonzero(totals[1]) < 2:
            return np.array([])
        areas = np.full(state.shape[1], np.nan)
        for label, (others, own) in enumerate(zip(*state, strict=True)):
            pairs = totals[0, label] * totals[1, label]
            if pairs:
                below = np.cumsum(others, dtype=np.float64) - others / 2
                areas[label] = float(own @ below) / pairs
        return areas


class _Calibration(_Combiner):
    """State: float64 [bins, 3]."""

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        confidence = probabilities.max(axis=1).astype(np.float64)
        right = probabilities.argmax(axis=1) == labels
        bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        columns = [np.bincount(bins, weights, BINS) for weights in (None, confidence, right.astype(np.float64))]
        return np.stack(columns, axis=1)

    def value(self, state: np.ndarray) -> np.ndarray:
        return state.ravel()


class _CalibrationError(_Calibration):
    def value(self, state: np.ndarray) -> Any:
        counts, confidence, right = state.T
        return float(np.abs(confidence - right).sum() / counts.sum())


class _Right(_Combiner):
    """State: int64 [classes + 1], examples of each class, and right answers."""

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        right = np.count_nonzero(probabilities.argmax(axis=1) == labels)
        return np.append(np.bincount(labels, minlength=probabilities.shape[1]), right)


class _HighestAccuracy(_Right):
    def __init__(self, key: tfma.metrics.MetricKey, confidence: float) -> None:
        super().__init__(key)
        self._confidence = confidence

    def value(self, state: np.ndarray) -> Any:
        return gates.highest(int(state[-1]), int(state[:-1].sum()), self._confidence)


class _GainOverLargest(_Right):
    def value(self, state: np.ndarray) -> Any:
        *counts, right = state.tolist()
        return (right - max(counts)) / sum(counts)


class _Uncalibrated(_Calibration):
    """State: that of _Calibration and a further row with the sum of the cross-entropy."""

    def __init__(self, key: tfma.metrics.MetricKey, temperature: float) -> None:
        super().__init__(key)
        self._temperature = temperature

    def count(self, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        least = float(np.finfo(np.float32).tiny)
        logits = predictions.without_temperature(probabilities, self._temperature, least)
        loss = -logits[np.arange(len(labels)), labels].sum()
        return np.vstack([super().count(labels, np.exp(logits)), [loss, 0, 0]])

    def value(self, state: np.ndarray) -> np.ndarray:
        bins = state[:-1]
        return np.append(bins.ravel(), [state[-1, 0] / bins[:, 0].sum(), self._temperature])
