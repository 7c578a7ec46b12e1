"""Tables that fit into the terminal: columns, bars with intervals, numbers as text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.text import plain

NAME = 24  # characters of a class name that are shown
BAR = 8, 32  # characters of the shortest and of the longest bar
SPARKS = "▁▂▃▄▅▆▇█"


@dataclasses.dataclass
class Column:
    """A column of a table that fits into the terminal.

    Attributes:
        header: its name.
        cells: one a row.
        right: whether they are aligned to the right.
        rank: 0 for what is always shown; the others are left out from the highest on until the table fits.
        widest: characters; longer cells are cut off with an ellipsis.
    """

    header: str
    cells: Sequence[Text]
    right: bool = False
    rank: int = 0
    widest: int | None = None

    @property
    def width(self) -> int:
        """Characters that it takes."""
        width = max(cell_len(self.header), *(cell.cell_len for cell in self.cells), 0)
        return min(width, self.widest) if self.widest else width


@dataclasses.dataclass
class Bars(Column):
    """Shares as bars with their 95 % intervals, as long as there is room.

    Attributes:
        shares: (share, lowest, highest), in 0 to 1.
        styles: of each bar.
        few: whether it is of too few examples to be judged by, and so to choose the scale by.
    """

    shares: Sequence[tuple[float, float, float]] = ()
    styles: Sequence[str] = ()
    few: Sequence[bool] = ()

    @property
    def width(self) -> int:
        """Characters that the shortest take."""
        return BAR[0]

    def draw(self, width: int) -> Column:
        """The column with bars of this width, their scale as its header."""
        few = self.few if self.few and not all(self.few) else [False] * len(self.shares)
        lowest = min((low for (_, low, _), skip in zip(self.shares, few, strict=True) if not skip), default=0.0)
        start = math.floor(lowest * 10) / 10 if lowest >= 0.5 else 0.0
        cells = [bar(*share, start, width, style) for share, style in zip(self.shares, self.styles, strict=True)]
        return Column(f"{start:.0%}".ljust(width - 4) + "100%", cells)


def bar(share: float, low: float, high: float, start: float, width: int, style: str) -> Text:
    """A bar from `start` to 1: solid up to the interval, darker and lighter within it below and above the share."""
    places = [round(max(0.0, x - start) / (1 - start) * width) for x in (low, share, high)]
    before, at, after = places[0], max(places[1], places[0]), max(places[1:])
    return Text.assemble(("█" * before, style), ("▓" * (at - before), style), ("░" * (after - at), f"dim {style}"))


def table(columns: Sequence[Column], width: int) -> Table:
    """The columns that fit into `width` characters, each cell on one line."""
    columns = list(columns)
    gap = 2

    def taken() -> int:
        return sum(column.width for column in columns) + gap * (len(columns) - 1)

    while taken() > width and any(column.rank for column in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    room = width - taken()
    made = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, show_edge=False)
    drawn = [c.draw(min(c.width + max(0, room), BAR[1])) if isinstance(c, Bars) else c for c in columns]
    for column in drawn:
        made.add_column(
            column.header,
            justify="right" if column.right else "left",
            max_width=column.widest,
            no_wrap=True,
            overflow="ellipsis",
        )
    for cells in zip(*(column.cells for column in drawn), strict=True):
        made.add_row(*cells)
    return made


def names(values: Sequence[object], header: str = "class") -> Column:
    """A column of names."""
    return Column(header, [Text(plain(value)) for value in values], widest=NAME)


def numbers(header: str, values: Sequence[str], rank: int = 0, style: str = "") -> Column:
    """A column of numbers."""
    return Column(header, [Text(value, style) for value in values], right=True, rank=rank)


def counts(values: Sequence[int], few: Sequence[bool]) -> Column:
    """Numbers of examples; those that are too few to judge by are marked."""
    cells = [Text(f"few {n:,}", "yellow") if small else Text(f"{n:,}") for n, small in zip(values, few, strict=True)]
    return Column("n", cells, right=True)


def intervals(values: Sequence[Sequence[float]], rank: int) -> Column:
    """95 % intervals of shares."""
    return numbers("interval", [f"{low:.1%}–{high:.1%}" for low, high in values], rank, "dim")


def lines(console: Console, texts: Sequence[str], style: str = "") -> None:
    """Sentences that may hold data."""
    for text in texts:
        console.print(Text(plain(text), style))


def sparkline(values: Sequence[float | None], lowest: float, most: int = 24) -> str:
    """The latest values as small columns from `lowest` to 1; a space where there is none."""
    scale = (len(SPARKS) - 1) / ((1 - lowest) or 1)
    return "".join(" " if value is None else SPARKS[round((value - lowest) * scale)] for value in values[-most:])


def percent(share: float | None) -> str:
    """A share with one decimal; a dash where there is none."""
    return "–" if share is None else f"{share:.1%}"


def fraction(value: float | None) -> str:
    """A number with three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = f"{100 * difference:+.1f}"
    return text if float(text) else "0.0"


def p_value(p: float) -> str:
    """Two digits are enough to judge by."""
    return "<0.001" if p < 0.001 else f"{p:.2f}" if p >= 0.1 else f"{p:.3f}"


def p_words(p: float) -> str:
    """As in a sentence, after the letter."""
    return "<\u00a00.001" if p < 0.001 else f"=\u00a0{p_value(p)}"
