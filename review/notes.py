"""What nobody may miss who decides about a model: a dishonest test, labels that are wrong, the weakest slice.

At most three short lines, the same in the terminal, at the report's top and in the model card; none where nothing is
the matter. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from review.report import schema

MOST = 3
DECIDED = {
    "approved": "Approved",
    "rejected": "Rejected",
    "rolled back": "Taken up again by a rollback",
    "pushed by hand": "Pushed by hand",
    "taken out of service": "Taken out of service by a rollback",
}
SUSPECTED = 0.002  # share of labels below which chance alone names some


def of_report(report: schema.Report, percent: Callable[[float], str] = "{:.1%}".format) -> list[str]:
    """The lines on a report.

    Args:
        report: of any version; what it lacks is not told.
        percent: writes a share.
    """
    found = [_leaked(report.evaluation, percent), _suspected(report, percent), _weakest(report.evaluation, percent)]
    return [line for line in found if line][:MOST]


def decision(made: schema.Decision) -> str:
    """What somebody decided about a model, in a sentence."""
    against = f" against {', '.join(made.against)}" if made.against else ""
    return f"{DECIDED[made.kind]}{against} by {made.by}, {made.at.replace('T', ' ')[:16]}: {made.reason}"


def _leaked(part: schema.Evaluation, percent: Callable[[float], str]) -> str | None:
    """Test examples that the model may know by heart."""
    without = part.without_near or part.without_leaked
    if without is None:
        return None
    nearly = ", or nearly" if part.without_near else ""
    rest = "none is left" if without.accuracy is None else f"accuracy without them {percent(without.accuracy)}"
    return f"{without.leaked:,} of {part.count:,} test pictures are in train or validation, too{nearly}: {rest}."


def _suspected(report: schema.Report, percent: Callable[[float], str]) -> str | None:
    """Labels that look wrong."""
    found = report.suspects
    if found is None or not found.count or found.count < SUSPECTED * sum(found.judged.values()):
        return None
    of = sum(found.judged.values())
    many = "labels look" if found.count != 1 else "label looks"
    return f"{found.count:,} of {of:,} {many} wrong ({percent(found.count / of)}): see alexnet suspects."


def _weakest(part: schema.Evaluation, percent: Callable[[float], str]) -> str | None:
    """The clearest of the slices that are worse than the rest beyond chance."""
    if part.weak_slices is None or not part.weak_slices.rows:
        return None
    first = part.weak_slices.rows[0]
    where = ", ".join(f"{name} {value}" for name, value in zip(first.features, first.values, strict=True))
    return (
        f"Weakest where {where}: accuracy {percent(first.accuracy)} (n={first.count:,}), "
        f"{percent(first.rest_accuracy)} elsewhere."
    )
