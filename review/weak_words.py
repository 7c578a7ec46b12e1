"""Weak slices in words, for the terminal, the report and the model card. Imports nothing heavy.

What they are and how they are found: `review.weak_slices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from core.text import plain
from review.tables import NAME, Column, intervals, lines, numbers, p_value, p_words, percent, table

if TYPE_CHECKING:
    from review.report import schema

CLASS = "class_name"
REST = "the other examples of the same classes"
NUMBERS = 36  # characters of the numbers beside the name of a slice in the terminal


def name(features: Sequence[str], values: Sequence[str]) -> str:
    """What the examples of a slice have in common, e.g. "cat × brightness dark (<64)"."""
    return " × ".join(
        value if feature == CLASS else f"{feature} {value}" for feature, value in zip(features, values, strict=True)
    )


def heading(found: Mapping[str, Any]) -> str:
    """How many were found among how many, in a sentence.

    Args:
        found: as `review.report.schema.WeakSlices`.
    """
    looked_at, rows = found["looked_at"], found["rows"]
    if not looked_at:
        return "No feature divides the test examples into slices that are large enough to look at."
    among = f"{looked_at:,} slice{'s' if looked_at != 1 else ''} looked at"
    if not rows:
        return f"None of {among} is worse than the rest beyond chance."
    return f"{len(rows)} of {among} {'is' if len(rows) == 1 else 'are'} worse than the rest beyond chance."


def sentences(found: Mapping[str, Any] | None, write: Callable[[float], str] = percent) -> list[str]:
    """A sentence for each weak slice, the clearest first; none if there are none, or if nobody looked.

    Args:
        found: as `review.report.schema.WeakSlices`.
        write: writes a share.
    """
    if not found:
        return []
    said = []
    for row in found["rows"]:
        share, low, high, rest = map(write, (row["accuracy"], *row["accuracy_interval"], row["rest_accuracy"]))
        said.append(
            f"It is weak on {name(row['features'], row['values'])}: accuracy {share} ({low} to {high}, n = "
            f"{row['count']:,}), of {REST} {rest}; p {p_words(row['p'])}, corrected for the {found['looked_at']:,} "
            "slices that were looked at."
        )
    return said


def show(console: Console, found: Mapping[str, Any] | None) -> None:
    """Prints the weak slices of a run's results, or in one line that there are none; nothing if nobody looked.

    Args:
        console: of the terminal.
        found: as `review.report.schema.WeakSlices`.
    """
    if not found:
        return
    rows = found["rows"]
    lines(console, [heading(found)], "bold red" if rows else "dim")
    if not rows:
        return
    columns = [
        Column(
            "weak slice",
            [Text(plain(name(row["features"], row["values"]))) for row in rows],
            widest=max(NAME, console.width - NUMBERS),
        ),
        numbers("n", [f"{row['count']:,}" for row in rows]),
        numbers("accuracy", [percent(row["accuracy"]) for row in rows], style="bold"),
        intervals([row["accuracy_interval"] for row in rows], rank=2),
        numbers("rest", [percent(row["rest_accuracy"]) for row in rows]),
        numbers("p", [p_value(row["p"]) for row in rows], rank=1),
    ]
    console.print(Padding(table(columns, console.width), (1, 0, 0, 0)))
    lines(console, [f"rest: {REST}; p is corrected for all {found['looked_at']:,} (Holm)", ""], "dim")


def with_pictures(
    found: schema.WeakSlices | None, pictures: Iterable[schema.Picture]
) -> list[tuple[int, schema.WeakSlice, list[schema.Picture]]]:
    """The weak slices of a report, numbered from 1, with those of their pictures that are shown."""
    by_file = {picture.file: picture for picture in pictures}
    rows = found.rows if found else []
    return [
        (number, row, [by_file[file] for file in row.pictures if file in by_file])
        for number, row in enumerate(rows, 1)
    ]
