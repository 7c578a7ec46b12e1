"""TFMA's evaluation of many examples at a time.

TFMA takes every example through its metrics by itself, once for each slice that it is in, which costs more than the
predictions do. Here the examples of a slice are put together first, as arrays, and the metrics of
`components.tfma_metrics` count them all at once. What follows (combining over bundles, differences to the baseline,
thresholds, writing) is TFMA's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from apache_beam.transforms import window
from apache_beam.utils import windowed_value
from tensorflow_model_analysis.proto import config_pb2

SIZE = 2048  # examples that are put together at most


def evaluator(config: config_pb2.EvalConfig, models: Any) -> tfma.evaluators.Evaluator:
    """TFMA's evaluator of metrics, plots and validations, for metrics that count arrays of examples.

    Args:
        config: whose metrics are all of `components.tfma_metrics`.
        models: as TFMA's evaluator takes them.
    """
    stock = tfma.evaluators.MetricsPlotsAndValidationsEvaluator(config, models)
    return stock._replace(ptransform=_Grouped(stock.ptransform))


def overall_evaluator(config: config_pb2.EvalConfig, models: Any) -> tfma.evaluators.Evaluator:
    """The same for what is measured over all examples only: without validations, and without slices.

    TFMA itself measures everything in every slice.
    """
    stock = tfma.evaluators.MetricsPlotsAndValidationsEvaluator(config, models)
    return stock._replace(stage_name="EvaluateOverall", ptransform=_Overall(stock.ptransform))


class _Grouped(beam.PTransform):
    def __init__(self, stock: beam.PTransform) -> None:
        super().__init__()
        self._stock = stock

    def expand(self, extracts: beam.PCollection) -> dict[str, beam.PCollection]:
        return extracts | "BySlice" >> beam.ParDo(_BySlice()) | self._stock


class _Overall(_Grouped):
    def expand(self, extracts: beam.PCollection) -> dict[str, beam.PCollection]:
        whole = extracts | "All" >> beam.Map(lambda extract: {**extract, tfma.SLICE_KEY_TYPES_KEY: [()]})
        found = super().expand(whole)
        return {key: found[key] for key in (tfma.METRICS_KEY, tfma.PLOTS_KEY)}


class _BySlice(beam.DoFn):
    """Extracts of an example each, with the keys of its slices -> extracts of a slice each, of many examples.

    Labels become [n], predictions [n, classes], of one model or in a dict by the models' names.
    """

    def start_bundle(self) -> None:
        self._waiting: list[tfma.Extracts] = []

    def process(self, extracts: tfma.Extracts) -> Iterator[tfma.Extracts]:
        self._waiting.append(extracts)
        if len(self._waiting) == SIZE:
            yield from self._slices()

    def finish_bundle(self) -> Iterator[windowed_value.WindowedValue]:
        for extracts in self._slices():
            yield windowed_value.WindowedValue(extracts, window.MIN_TIMESTAMP, (window.GlobalWindow(),))

    def _slices(self) -> Iterator[tfma.Extracts]:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        rows: dict[tuple, list[int]] = {}
        for number, extracts in enumerate(waiting):
            for key in extracts[tfma.SLICE_KEY_TYPES_KEY]:
                rows.setdefault(key, []).append(number)
        labels, predictions = (
            _stacked([extracts[key] for extracts in waiting]) for key in (tfma.LABELS_KEY, tfma.PREDICTIONS_KEY)
        )
        for key, chosen in rows.items():
            yield {
                tfma.SLICE_KEY_TYPES_KEY: [key],
                tfma.LABELS_KEY: _taken(labels, chosen),
                tfma.PREDICTIONS_KEY: _taken(predictions, chosen),
            }


def _stacked(values: list) -> Any:
    """One array of an array from each example, for each model where there are several."""
    if isinstance(values[0], dict):
        return {name: _stacked([value[name] for value in values]) for name in values[0]}
    return np.stack([np.ravel(value) for value in values])


def _taken(values: Any, rows: list[int]) -> Any:
    if isinstance(values, dict):
        return {name: _taken(value, rows) for name, value in values.items()}
    return values[rows]
