"""Gates, words, and the per-class results."""

import math

import numpy as np
import pytest
from sklearn import metrics

from core import settings
from review import gates, results, statistics

LIMITS = settings.Gates(
    min_accuracy=0.7, min_class_recall=0.5, confidence=0, max_accuracy_drop=0.05, max_class_recall_drop=0.2
)


def judge(accuracy=0.8, recalls=None, limits=LIMITS, **baseline):
    recalls = recalls or {"cat": 0.7, "dog": 0.9}
    return gates.judge(limits, accuracy, 20, recalls, dict.fromkeys(recalls, 10), **baseline)


def test_without_a_baseline_only_floors_apply():
    found = judge()
    assert [gate.what for gate in found] == ["accuracy", "recall of cat", "recall of dog"]
    assert all(gate.passed for gate in found)


def test_a_failed_gate_is_explained():
    (failed,) = [gate for gate in judge(recalls={"cat": 0.467, "dog": 0.9}) if not gate.passed]
    assert failed.words() == "recall of cat 0.467 < 0.500 (gates.min_class_recall), n=10"


def test_with_a_baseline_a_loss_is_judged_too():
    found = judge(baseline_accuracy=0.86, baseline_recalls={"cat": 0.89, "dog": 0.95})
    failed = [gate.words() for gate in found if not gate.passed]
    assert failed == [
        "accuracy 0.800 < 0.810 (baseline 0.860, gates.max_accuracy_drop=0.05), n=20",
    ]
    assert len(found) == 6


def test_a_value_at_the_limit_passes_and_nan_fails():
    assert gates.floor("accuracy", 0.7, 0.7, "min_accuracy", 1).passed
    assert not gates.floor("accuracy", math.nan, 0.7, "min_accuracy", 1).passed


@pytest.mark.parametrize(("right", "passed"), [(1, False), (2, True), (5, True)])
def test_a_class_fails_its_floor_only_where_all_of_its_interval_is_below(right, passed):
    """Of 10, 1 is in 0.018 to 0.404, and 2 in 0.057 to 0.510 (Newcombe's method 3)."""
    limits = settings.Gates(min_accuracy=0, min_class_recall=0.5)
    gate = next(gate for gate in judge(recalls={"cat": right / 10}, limits=limits) if gate.what == "recall of cat")
    assert gate.passed == passed
    assert gate.within == (passed and right < 5)
    words = {
        1: "recall of cat 0.100 < 0.500 (gates.min_class_recall, 0.95 interval up to 0.404), n=10",
        2: "recall of cat 0.200 < 0.500 (gates.min_class_recall, 0.95 interval up to 0.510), n=10",
        5: "recall of cat 0.500 >= 0.500 (gates.min_class_recall), n=10",
    }
    assert gate.words() == words[right]


def test_more_confidence_lets_more_pass():
    limits = settings.Gates(min_accuracy=0, min_class_recall=0.5, confidence=0.99)
    assert all(gate.passed for gate in judge(recalls={"cat": 0.1, "dog": 0.9}, limits=limits))


@pytest.mark.parametrize(("right", "passed"), [(7, False), (8, False), (9, True)])
def test_by_default_a_model_must_be_better_than_its_largest_class(right, passed):
    found = gates.judge(settings.Gates(), right / 12, 12, {"cat": 0.9, "dog": 0.1}, {"cat": 8, "dog": 4})
    (gate,) = [gate for gate in found if gate.what == "accuracy"]
    sign = ">" if passed else "<="
    assert gate.passed == passed
    assert gate.words() == f"accuracy {right / 12:.3f} {sign} 0.667 (share of cat, the largest class), n=12"


def test_by_default_no_class_may_be_never_recognised():
    found = gates.judge(
        settings.Gates(), 0.7, 100, {"cat": 0.9, "dog": 0.0, "emu": 0.01}, {"cat": 50, "dog": 1, "emu": 49}
    )
    assert [gate.words() for gate in found if not gate.passed] == [
        "recall of dog 0.000 <= 0.000 (no class may be never recognised), n=1"
    ]


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_wilson_interval_is_the_published_one(correct, count, low, high):
    assert statistics.wilson(correct / count, count) == pytest.approx((low, high), abs=1e-4)


def test_per_class_results_equal_scikit_learns():
    random = np.random.default_rng(0)
    names = ["ant", "bee", "cat", "dog"]
    true = random.integers(0, 4, 500)
    predicted = np.where(random.random(500) < 0.7, true, random.integers(0, 4, 500))
    matrix = metrics.confusion_matrix(true, predicted)
    candidate = {
        "matrix": matrix.tolist(),
        "recalls": {name: matrix[k, k] / matrix[k].sum() for k, name in enumerate(names)},
        "counts": {name: int(matrix[k].sum()) for k, name in enumerate(names)},
        "auc": [0.9, 0.8, math.nan, 0.7],
    }
    rows = results.classes(candidate, None, names, [])
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(true, predicted)
    assert [row["recall"] for row in rows] == sorted(recall)
    for row in rows:
        label = names.index(row["class_name"])
        assert row["precision"] == pytest.approx(precision[label])
        assert row["f1"] == pytest.approx(f1[label])
        assert row["auc"] == [0.9, 0.8, None, 0.7][label]
        wrong = np.where(np.arange(4) == label, -1, matrix[label])
        assert row["mostly_taken_for"] == names[int(wrong.argmax())]


def test_a_class_that_is_never_predicted_has_no_precision():
    candidate = {"matrix": [[0, 3], [0, 5]], "recalls": {"a": 0.0, "b": 1.0}, "counts": {"a": 3, "b": 5}, "auc": []}
    worst = results.classes(candidate, None, ["a", "b"], [])[0]
    assert (worst["class_name"], worst["precision"], worst["f1"]) == ("a", None, 0)


def test_a_perfectly_calibrated_model_shows_an_error_by_chance_too():
    counts, confidences = np.array([3, 40, 0, 250, 2, 1500]), np.array([0.1, 0.31, 0, 0.55, 1.0, 0.9987])
    bins = [
        {"count": int(n), "confidence": float(p) if n else None, "accuracy": None}
        for n, p in zip(counts, confidences, strict=True)
    ]
    drawn = np.random.default_rng(1).binomial(counts, confidences, (20_000, 6))
    expected = np.abs(drawn - counts * confidences).sum(1).mean() / counts.sum()
    assert results.calibration_error_by_chance(bins) == pytest.approx(expected, rel=0.02)
    assert results.calibration_error_by_chance([]) == 0
