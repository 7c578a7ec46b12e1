"""How the evaluations of the same data went over time. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Past:
    """One evaluation.

    Attributes:
        run: id of the run that made it, or of the first one known to show it.
        runs: all that show it; the later ones took it from the cache.
        made: when that run started, local time, ISO 8601.
        preset: of that run.
        count: test examples.
        accuracy: and its 95 % interval.
        recalls: class name -> recall.
        blessed: whether it passed its gates.
        pushed: whether one of the runs pushed the model.
        same_data: whether the examples are those of the evaluation before, as far as is known.
    """

    run: str
    runs: tuple[str, ...]
    made: str
    preset: str
    count: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    recalls: dict[str, float]
    blessed: bool
    pushed: bool
    same_data: bool = True


@dataclasses.dataclass(frozen=True)
class Course:
    """A class over the evaluations.

    Attributes:
        class_name: its name.
        recalls: in each evaluation, oldest first; None where it was not there.
    """

    class_name: str
    recalls: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The recalls that there are; at least one."""
        return [recall for recall in self.recalls if recall is not None]

    @property
    def change(self) -> float:
        """From the first recall to the latest."""
        return self.known[-1] - self.known[0]

    @property
    def range(self) -> float:
        """Between the lowest and the highest recall."""
        return max(self.known) - min(self.known)


def collect(results: Sequence[Mapping], name: str | None = None) -> tuple[str, list[Past]]:
    """The evaluations of the same data, each once.

    Args:
        results: of all runs, oldest first.
        name: of the data; None for those of the latest evaluated run.

    Returns:
        The name, and the evaluations, oldest first.

    Raises:
        UserError: there are none; names the data that there are.
    """
    evaluated = [result for result in results if result.get("evaluation")]
    if not evaluated:
        raise UserError("No run has been evaluated yet: start one with `alexnet run`.")
    name = name or evaluated[-1]["name"]
    found: dict[str, list[Mapping]] = {}
    for result in evaluated:
        if result["name"] == name:
            found.setdefault(result["evaluation"]["path"], []).append(result)
    if not found:
        known = ", ".join(sorted({result["name"] for result in evaluated}))
        raise UserError(f"--name {name}: no run of such data has been evaluated; there are {known}.")
    pasts, before = [], None
    for runs in found.values():
        first = runs[0]
        part = first["evaluation"]
        data = part["count"], sorted(part["class_names"]), (first.get("data") or {}).get("fingerprint")
        pasts.append(
            Past(
                run=first["run"],
                runs=tuple(run["run"] for run in runs),
                made=first["started"],
                preset=first["preset"],
                count=part["count"],
                accuracy=part["accuracy"],
                accuracy_interval=tuple(part["accuracy_interval"]),
                recalls={row["class_name"]: row["recall"] for row in part["classes"]},
                blessed=part["blessed"],
                pushed=any(run["state"] == "pushed" for run in runs),
                same_data=before is None or same(before, data),
            )
        )
        before = data
    return name, pasts


def same(first: tuple, second: tuple) -> bool:
    """Whether two data agree in all that is known of both."""
    return all(a == b or a is None or b is None for a, b in zip(first, second, strict=True))


def courses(pasts: Sequence[Past]) -> list[Course]:
    """Every class over the evaluations, the worst one of the latest first; those that it lacks come last."""
    names = dict.fromkeys(name for past in reversed(pasts) for name in past.recalls)
    made = [Course(name, tuple(past.recalls.get(name) for past in pasts)) for name in names]
    return sorted(made, key=lambda c: (c.recalls[-1] is None, c.known[-1], c.class_name))


def telling(found: Sequence[Course], most: int) -> list[Course]:
    """Where there are more than `most` classes: half as many of the worst, then of the most changed; same order."""
    if len(found) <= most:
        return list(found)
    chosen = list(found[: most // 2])
    others = sorted(found[most // 2 :], key=lambda course: -course.range)
    chosen += others[: most - len(chosen)]
    return [course for course in found if course in chosen]


def record(name: str, pasts: Sequence[Past]) -> dict:
    """For JSON."""
    return {"name": name, "evaluations": [dataclasses.asdict(past) for past in pasts]}


def rows(pasts: Sequence[Past]) -> list[dict]:
    """For CSV: a row for the accuracy of each evaluation, whose class name is empty, and one for each recall."""
    made = []
    for past in pasts:
        shared = {
            "run": past.run,
            "made": past.made,
            "runs": len(past.runs),
            "count": past.count,
            "blessed": past.blessed,
            "pushed": past.pushed,
        }
        made.append({**shared, "what": "accuracy", "class_name": "", "value": past.accuracy})
        made += [
            {**shared, "what": "recall", "class_name": class_name, "value": recall}
            for class_name, recall in past.recalls.items()
        ]
    return made


def page(name: str, pasts: Sequence[Past]) -> str:
    """The history as the text of an HTML file."""
    from review.report import charts
    from review.report.web import environment, percent

    chart = None
    if len(pasts) > 1:
        line = charts.Line(
            "accuracy",
            [past.accuracy for past in pasts],
            [past.accuracy_interval for past in pasts],
            [past.blessed for past in pasts],
        )
        label = f"Accuracy over {len(pasts)} evaluations; the numbers are in the table."
        one_day = pasts[0].made[:10] == pasts[-1].made[:10]
        times = [past.made[11:16] if one_day else past.made[5:10] for past in pasts]
        chart = charts.lines(label, times, [line], "evaluated", percent, (0, 1))

    def spark(course: Course) -> str:
        words = ", ".join(percent(recall, 0) for recall in course.recalls)
        return charts.spark(f"recall of {course.class_name} over the evaluations: {words}", course.recalls)

    return (
        environment()
        .get_template("history.html.j2")
        .render(
            name=name,
            pasts=pasts,
            times=sum(len(past.runs) for past in pasts),
            chart=chart,
            courses=courses(pasts),
            spark=spark,
        )
    )
