"""What the terminal shows of labels that are suspected to be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from core.text import plain
from review import suspects
from review.report import schema
from review.tables import NAME, Column, lines, names, numbers, percent, table

FOLD = 20  # suspects; more are folded
ID = 44  # characters of an id that are shown


def show(console: Console, run: str, found: schema.Suspects) -> None:
    """How many there are, and the first of them."""
    console.print(
        Text.assemble((f"Run {plain(run)}", "bold"), f": {suspects.tell(found.count, found.judged, found.total)}")
    )
    if not found.rows:
        return
    console.print(Padding(_table(found.rows[:FOLD], console.width), (1, 0)))
    if found.count > FOLD:
        left = found.count - FOLD
        lines(console, [f"… and {left:,} more: --output FILE or --format csv shows all", ""])


def _table(rows: Sequence[schema.Suspect], width: int) -> Table:
    return table(
        [
            names([row.label for row in rows], "labelled"),
            Column("looks like", [Text(plain(row.suggested_label), "bold") for row in rows], widest=NAME),
            numbers("probability", [percent(row.suggested_probability) for row in rows]),
            numbers("of the label", [percent(row.label_probability) for row in rows], rank=2),
            Column("split", [Text(row.split) for row in rows], rank=1),
            Column("id", [Text(_short(row.id), "dim") for row in rows], widest=ID, rank=3),
        ],
        width,
    )


def _short(id: str) -> str:
    """The end of a long id: the beginning of a path is the same for all."""
    text = plain(id)
    return text if len(text) <= ID else f"…{text[1 - ID :]}"
