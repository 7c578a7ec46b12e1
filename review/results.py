"""The results of a run, `results.json`: what `runs`, `slices` and later tools read. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from core.settings import Evaluation, Settings
from review import duplicates, gates, near_duplicates
from review.statistics import wilson

VERSION = 3  # of the form of results.json; since 3 its paths are relative to the working directory


def evaluate(summary: Mapping, settings: Settings) -> dict | None:
    """The evaluation part of the results, in the form of `review.report.schema.Evaluation`.

    Args:
        summary: from pipeline.lineage.summarise.
        settings: whose gates the model was judged by.

    Returns:
        None if Evaluator did not run.
    """
    candidate, baseline = summary.get("candidate"), summary.get("baseline")
    if not candidate:
        return None
    judged = gates.judge(
        settings.gates,
        candidate["accuracy"],
        candidate["count"],
        candidate["recalls"],
        candidate["counts"],
        baseline["accuracy"] if baseline else None,
        baseline["recalls"] if baseline else None,
        candidate["calibration_error"],
        summary.get("corruptions"),
    )
    rows = classes(candidate, baseline, summary["data"]["class_names"], judged)
    remaining = summary.get("without_leaked")
    if remaining:
        rows = [{**row, **duplicates.of_class(remaining.get(row["class_name"]))} for row in rows]
    near = summary.get("without_near")
    rows = near_duplicates.into(rows, near)
    bins = calibration(candidate["calibration"])
    error = candidate["calibration_error"]
    return {
        "count": candidate["count"],
        "accuracy": candidate["accuracy"],
        "accuracy_interval": list(wilson(candidate["accuracy"], candidate["count"])),
        "without_leaked": duplicates.overall(remaining) if remaining else None,
        "without_near": duplicates.overall(near) if near else None,
        "loss": candidate["loss"],
        "top_3_accuracy": candidate["top_3_accuracy"],
        "macro_f1": sum(row["f1"] or 0 for row in rows) / len(rows),
        "calibration_error": calibration_error(bins) if error is None else error,
        "calibration_error_by_chance": calibration_error_by_chance(bins) if bins else None,
        "baseline_accuracy": baseline["accuracy"] if baseline else None,
        "baseline_loss": baseline["loss"] if baseline else None,
        "classes": rows,
        "class_names": summary["data"]["class_names"],
        "confusion_matrix": square(candidate["matrix"], len(summary["data"]["class_names"])),
        "calibration": bins,
        "uncalibrated": uncalibrated(candidate["uncalibrated"]),
        "corruptions": summary.get("corruptions"),
        "slices": slices(candidate["slices"], baseline["slices"] if baseline else (), settings.evaluation),
        "smallest_slice": settings.evaluation.smallest_slice,
        "weak_slices": summary.get("weak_slices"),
        "gates": [{**vars(gate), "value": none_if_nan(gate.value), "words": gate.words()} for gate in judged],
        "blessed": summary["blessed"],
        "path": summary["evaluation"],
    }


def classes(candidate: Mapping, baseline: Mapping | None, names: list[str], judged: list[gates.Gate]) -> list[dict]:
    """A row a class, worst recall first.

    Recall is TFMA's accuracy within the slice of the true class; precision and F1 come from TFMA's confusion matrix
    of the overall slice (within a slice of one true class they would mean nothing).
    """
    matrix = candidate["matrix"]
    failed = {gate.what for gate in judged if not gate.passed}
    predictions = [sum(column) for column in zip(*matrix, strict=True)]
    rows = []
    for label, name in enumerate(names):
        if name not in candidate["recalls"]:
            continue
        recall, count = candidate["recalls"][name], candidate["counts"][name]
        predicted = predictions[label] if label < len(matrix) else 0
        correct = matrix[label][label] if label < len(matrix) else 0
        precision = correct / predicted if predicted else None
        wrong = [(n, other) for other, n in enumerate(matrix[label]) if other != label] if label < len(matrix) else []
        most, other = max(wrong, key=lambda pair: (pair[0], -pair[1]), default=(0, 0))
        rows.append(
            {
                "class_name": name,
                "count": count,
                "recall": recall,
                "recall_interval": list(wilson(recall, count)),
                "precision": precision,
                # The harmonic mean of both, in the form that is 0 for a class that is never predicted.
                "f1": 2 * correct / (predicted + count),
                "auc": none_if_nan(candidate["auc"][label]) if label < len(candidate["auc"]) else None,
                "baseline_recall": baseline["recalls"].get(name) if baseline else None,
                "mostly_taken_for": names[other] if most else None,
                "mostly_taken_for_count": most,
                "passed": f"recall of {name}" not in failed,
            }
        )
    return sorted(rows, key=lambda row: (row["recall"], row["class_name"]))


def square(matrix: list[list[int]], size: int) -> list[list[int]]:
    """The confusion matrix with a row and a column for every class: TFMA ends with the last that occurs."""
    rows = [[*row, *[0] * (size - len(row))] for row in matrix]
    return rows + [[0] * size for _ in range(size - len(rows))]


def calibration(counted: Sequence[Sequence[float]]) -> list[dict]:
    """The bins of the reliability diagram, from (examples, sum of the highest probability, right ones) of each."""
    return [
        {
            "low": number / len(counted),
            "high": (number + 1) / len(counted),
            "count": round(count),
            "confidence": confidence / count if count else None,
            "accuracy": right / count if count else None,
        }
        for number, (count, confidence, right) in enumerate(counted)
    ]


def calibration_error(bins: Sequence[Mapping]) -> float:
    """The mean distance of confidence from accuracy over the bins from `calibration`."""
    off = sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["count"])
    return off / max(1, sum(b["count"] for b in bins))


def calibration_error_by_chance(bins: Sequence[Mapping]) -> float:
    """The mean `calibration_error` of a perfectly calibrated model with as many examples in the bins.

    It is above 0: even then the share of right answers in a bin scatters around their confidence. The mean absolute
    deviation of n answers that are right with probability p is 2 m C(n, m) p^m (1-p)^(n-m+1), where m = floor(np) + 1
    (De Moivre 1730; see Diaconis and Zabell 1991). All answers of a bin are taken to have its mean confidence.
    """
    deviation = 0.0
    for n, p in ((b["count"], b["confidence"]) for b in bins if b["count"]):
        if 0 < p < 1:
            m = math.floor(n * p) + 1
            choose = math.lgamma(n + 1) - math.lgamma(m + 1) - math.lgamma(n - m + 1)
            deviation += 2 * m * math.exp(choose + m * math.log(p) + (n - m + 1) * math.log1p(-p))
    return deviation / max(1, sum(b["count"] for b in bins))


def uncalibrated(found: Mapping | None) -> dict | None:
    """What the model was before its temperature, in the form of `review.report.schema.Uncalibrated`."""
    if not found:
        return None
    bins = calibration(found["calibration"])
    return {**found, "calibration": bins, "calibration_error": calibration_error(bins)}


def slices(candidate: Sequence[Mapping], baseline: Sequence[Mapping], settings: Evaluation) -> list[dict]:
    """The slices of `evaluation.slices`, each group with its worst accuracy first, those too small at its end."""
    before = {tuple(sorted(part["values"].items())): part["accuracy"] for part in baseline}
    groups: dict[tuple[str, ...], list[dict]] = {tuple(names.split(",")): [] for names in settings.slices}
    order = {tuple(sorted(names)): names for names in groups}  # TFMA puts the names in its own order
    for part in candidate:
        names = order.get(tuple(sorted(part["values"])))
        if names is None:
            continue
        groups[names].append(
            {
                "values": [part["values"][name] for name in names],
                "count": part["count"],
                "accuracy": part["accuracy"],
                "accuracy_interval": list(wilson(part["accuracy"], part["count"])),
                "loss": none_if_nan(part["loss"]),
                "baseline_accuracy": before.get(tuple(sorted(part["values"].items()))),
                "too_small": part["count"] < settings.smallest_slice,
            }
        )
    return [
        {
            "features": list(names),
            "rows": sorted(rows, key=lambda row: (row["too_small"], row["accuracy"], row["values"])),
        }
        for names, rows in groups.items()
    ]


def none_if_nan(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def trials(found: Sequence[Mapping]) -> list[dict]:
    """The trials of a search in the form of `review.report.schema.Trial`, the best first.

    Args:
        found: what TFX's Tuner writes into tuner_results.json; trials that diverged are not in it.
    """
    return [
        {
            "trial": int(row["trial_id"]) + 1,
            "accuracy": row["score"],
            "epochs": row.get("tuner/epochs"),  # Hyperband's
            "values": {key: value for key, value in row.items() if key.startswith(("model.", "training."))},
        }
        for row in found
    ]


def verdict(results: Mapping) -> str:
    """Why the model was pushed or not, in a sentence."""
    state, part = results["state"], results.get("evaluation") or {}
    if decided := _decided(results):
        return decided
    if state == "waiting":
        return "waiting for approval" + (f": all {len(part['gates'])} gates passed" if part else "")
    if state == "pushed":
        again = " (from an earlier run)" if results["nodes"].get("Pusher", {}).get("state") == "cached" else ""
        return f"pushed{again}" + (f": all {len(part['gates'])} gates passed" if part else "")
    if state == "cleared":
        return f"cleared to be pushed: all {len(part['gates'])} gates passed, and the model serves"
    if state == "not pushed":
        failed = [gate["words"] for gate in part.get("gates", []) if not gate["passed"]]
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        if failed:
            return f"not pushed: {failed[0]}{more}"
        if results.get("held"):
            return f"not pushed: {results['held']}"
        problems = (results.get("serving_check") or {}).get("problems") or ["the serving check failed"]
        return f"not pushed: {problems[0]}"
    if state == "partial":
        return "ran the part that was asked for"
    return f"{state}: {results['error']}" if results.get("error") else state


def _decided(results: Mapping) -> str | None:
    """The latest decision of somebody about the model, in a sentence; None if there was none."""
    if not results.get("decisions") or results["state"] not in ("pushed", "not pushed"):
        return None
    made = results["decisions"][-1]
    by = f"by {made['by']}: {made['reason']}"
    if made["kind"] == "rejected":
        return f"not pushed: rejected {by}"
    if made["kind"] == "taken out of service":
        return f"pushed, and rolled back {by}"
    if made["kind"] == "rolled back":
        return f"pushed, and taken up again by a rollback {by}"
    if made["kind"] == "pushed by hand":
        against = f" against {', '.join(made['against'])}" if made["against"] else ""
        return f"pushed by hand{against} {by}"
    return f"pushed: {made['kind']} {by}"
