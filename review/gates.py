"""The gates in words. TFMA decides (its failures carry no message); this says what it decided about."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping

from core import settings
from review.statistics import wilson


@dataclasses.dataclass(frozen=True)
class Gate:
    """One gate and how the model fared.

    Attributes:
        what: "accuracy", "recall of NAME", "calibration error" or "accuracy on harmed pictures".
        value: the model's.
        limit: the smallest value that passes, or the largest.
        reason: the setting, or the baseline and the setting, that the limit comes from.
        count: test examples behind the value.
        passed: whether value >= limit; never for NaN.
        at_most: whether a larger value fails, not a smaller one.
        strict: whether the value must be larger than the limit.
        within: whether it is smaller and passed, since chance alone may be why.
    """

    what: str
    value: float
    limit: float
    reason: str
    count: int
    passed: bool
    at_most: bool = False
    strict: bool = False
    within: bool = False

    def words(self) -> str:
        """E.g. "recall of cat 0.467 < 0.500 (gates.min_class_recall), n=500"."""
        if self.strict:
            sign = ">" if self.passed else "<="
        else:
            sign = (">" if self.at_most else "<") if not self.passed else "<=" if self.at_most else ">="
        sign = "<" if self.within else sign
        return f"{self.what} {self.value:.3f} {sign} {self.limit:.3f} ({self.reason}), n={self.count}"


def floor(what: str, value: float, limit: float, key: str, count: int) -> Gate:
    """A value that must reach a limit."""
    return Gate(what, value, limit, f"gates.{key}", count, not math.isnan(value) and value >= limit)


def class_floor(what: str, recall: float, limit: float, confidence: float, count: int) -> Gate:
    """A recall whose interval must reach a limit: of a few examples one more or less would decide else.

    The interval is Wilson's; without confidence it is the recall itself.
    """
    if not confidence or math.isnan(recall) or recall >= limit:
        return floor(what, recall, limit, "min_class_recall", count)
    # Of whole examples, as the metric has it; TFMA's accuracy is rounded.
    upper = highest(round(recall * count), count, confidence)
    reason = f"gates.min_class_recall, {confidence:.4g} interval up to {upper:.3f}"
    passed = upper >= limit
    return Gate(what, recall, limit, reason, count, passed, within=passed)


def highest(right: int, count: int, confidence: float) -> float:
    """The upper end of the interval of a share, `right` of `count` examples."""
    if not count:
        return 1.0
    return wilson(right / count, count, statistics.NormalDist().inv_cdf((1 + confidence) / 2))[1]


def over(what: str, value: float, limit: float, reason: str, count: int, passed: bool) -> Gate:
    """A value that must be larger than a limit."""
    return Gate(what, value, limit, reason, count, passed, strict=True)


def ceiling(what: str, value: float, limit: float, key: str, count: int) -> Gate:
    """A value that must not exceed a limit."""
    return Gate(what, value, limit, f"gates.{key}", count, not math.isnan(value) and value <= limit, at_most=True)


def drop(what: str, value: float, baseline: float, allowed: float, key: str, count: int) -> Gate:
    """A value that must not fall further below the baseline's than allowed."""
    reason = f"baseline {baseline:.3f}, gates.{key}={allowed:g}"
    # Compared as TFMA does, or rounding could make the words contradict the blessing.
    return Gate(what, value, baseline - allowed, reason, count, value - baseline >= -allowed)


def judge(
    limits: settings.Gates,
    accuracy: float,
    count: int,
    recalls: dict[str, float],
    counts: dict[str, int],
    baseline_accuracy: float | None = None,
    baseline_recalls: dict[str, float] | None = None,
    calibration_error: float | None = None,
    corruptions: Mapping | None = None,
) -> list[Gate]:
    """Every gate that applied, the failed ones first."""
    if limits.min_accuracy is not None:
        gates = [floor("accuracy", accuracy, limits.min_accuracy, "min_accuracy", count)]
    else:
        largest = max(counts, key=lambda name: counts[name])
        better = not math.isnan(accuracy) and round(accuracy * count) > counts[largest]
        gates = [
            over(
                "accuracy", accuracy, counts[largest] / count, f"share of {largest}, the largest class", count, better
            )
        ]
    if baseline_accuracy is not None:
        allowed = limits.max_accuracy_drop
        gates.append(drop("accuracy", accuracy, baseline_accuracy, allowed, "max_accuracy_drop", count))
    for name, recall in recalls.items():
        what = f"recall of {name}"
        if limits.min_class_recall is not None:
            gates.append(class_floor(what, recall, limits.min_class_recall, limits.confidence, counts[name]))
        else:
            gates.append(over(what, recall, 0.0, "no class may be never recognised", counts[name], recall > 0))
        if baseline_recalls and name in baseline_recalls:
            allowed = limits.max_class_recall_drop
            gates.append(drop(what, recall, baseline_recalls[name], allowed, "max_class_recall_drop", counts[name]))
    if limits.max_calibration_error is not None and calibration_error is not None:
        key = "max_calibration_error"
        gates.append(ceiling("calibration error", calibration_error, limits.max_calibration_error, key, count))
    if limits.min_corrupted_accuracy is not None and corruptions:
        value, copies = corruptions["accuracy"], corruptions["copies"]
        limit = limits.min_corrupted_accuracy
        gates.append(floor("accuracy on harmed pictures", value, limit, "min_corrupted_accuracy", copies))
    return sorted(gates, key=lambda gate: gate.passed)
