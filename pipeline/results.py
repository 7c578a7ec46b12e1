"""The results of a run, `results.json`: what `runs`, `slices` and later tools read. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipeline import gates
from pipeline.settings import Settings

VERSION = 1  # of the form of results.json


def evaluate(summary: Mapping, settings: Settings) -> dict | None:
    """The evaluation part of the results: overall, per class, gates; None if Evaluator did not run.

    Args:
        summary: from pipeline.lineage.summarise.
        settings: whose gates the model was judged by.
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
    )
    low, high = wilson(candidate["accuracy"], candidate["count"])
    return {
        "count": candidate["count"],
        "accuracy": candidate["accuracy"],
        "accuracy_interval": [low, high],
        "baseline_accuracy": baseline["accuracy"] if baseline else None,
        "loss": candidate["loss"],
        "top_3_accuracy": candidate["top_3_accuracy"],
        "classes": classes(candidate, baseline, summary["data"]["class_names"], judged),
        "confusion_matrix": candidate["matrix"],
        "class_names": summary["data"]["class_names"],
        "gates": [{**vars(gate), "words": gate.words()} for gate in judged],
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
    rows = []
    for label, name in enumerate(names):
        if name not in candidate["recalls"]:
            continue
        recall, count = candidate["recalls"][name], candidate["counts"][name]
        predicted = sum(row[label] for row in matrix) if label < len(matrix) else 0
        correct = matrix[label][label] if label < len(matrix) else 0
        precision = correct / predicted if predicted else float("nan")
        both = precision + recall
        wrong = [(n, other) for other, n in enumerate(matrix[label]) if other != label] if label < len(matrix) else []
        most, other = max(wrong, key=lambda pair: (pair[0], -pair[1]), default=(0, 0))
        rows.append(
            {
                "class_name": name,
                "count": count,
                "recall": recall,
                "recall_interval": list(wilson(recall, count)),
                "precision": none_if_nan(precision),
                "f1": none_if_nan(2 * precision * recall / both if both else float("nan")),
                "baseline_recall": baseline["recalls"].get(name) if baseline else None,
                "mostly_taken_for": names[other] if most else None,
                "mostly_taken_for_count": most,
                "passed": f"recall of {name}" not in failed,
            }
        )
    return sorted(rows, key=lambda row: (row["recall"], row["class_name"]))


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share of `count` examples (Wilson 1927)."""
    if not count or math.isnan(share):
        return 0.0, 1.0
    centre = share + z * z / (2 * count)
    margin = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def none_if_nan(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def verdict(results: Mapping) -> str:
    """Why the model was pushed or not, in a sentence."""
    state, part = results["state"], results.get("evaluation")
    if state == "pushed":
        again = " (from an earlier run)" if results["nodes"].get("Pusher", {}).get("state") == "cached" else ""
        return f"pushed{again}" + (f": all {len(part['gates'])} gates passed" if part else "")
    if state == "not pushed":
        failed = [gate["words"] for gate in (part or {"gates": []})["gates"] if not gate["passed"]]
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        if failed:
            return f"not pushed: {failed[0]}{more}"
        problems = (results.get("serving_check") or {}).get("problems") or ["the serving check failed"]
        return f"not pushed: {problems[0]}"
    if state == "partial":
        return "ran the part that was asked for"
    return f"{state}: {results['error']}" if results.get("error") else state
