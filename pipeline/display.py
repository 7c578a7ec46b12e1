"""What the terminal shows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline import compare, progress
from pipeline import history as past
from pipeline.text import plain, setting

FOLD = 20  # classes or runs; more are folded, but where they are asked for
NAME = 24  # characters of a class name that are shown
BAR = 8, 32  # characters of the shortest and of the longest bar
SPARKS = "▁▂▃▄▅▆▇█"
PASSED, FAILED = Text("✓ pass", "green"), Text("✗ fail", "bold red")
VERDICTS = {
    "better": Text("▲ better", "green"),
    "worse": Text("▼ worse", "bold red"),
    "chance": Text("· chance", "dim"),
}
SYMBOLS = {
    progress.WAITING: ("·", "dim"),
    progress.RUNNING: ("▶", "cyan"),
    progress.DONE: ("✓", "green"),
    progress.CACHED: ("↺", "blue"),
    progress.FAILED: ("✗", "bold red"),
    progress.SKIPPED: ("–", "dim"),
}


def live(run: progress.Run) -> RenderableType:
    """The nodes of a run under way."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    for name, node in run.nodes.items():
        symbol, style = SYMBOLS[node.state]
        seconds = (
            f"{node.elapsed():.1f} s" if node.state in (progress.RUNNING, progress.DONE, progress.FAILED) else ""
        )
        words = progress.WORDS.get(node.state, node.state)
        table.add_row(
            Text(symbol, style),
            Text(name, "bold" if node.state == progress.RUNNING else ""),
            Text(words, style),
            Text(seconds, justify="right"),
            Text(node.detail),
        )
    parts: list[RenderableType] = [table, *(Text(note, "yellow") for note in run.notes)]
    if run.status:
        parts.append(Spinner("dots", text=f" {run.status} …"))
    return Group(*parts)


def summary(console: Console, results: Mapping) -> None:
    """The end of a run: what came out of it, and where it lies."""
    part = results.get("evaluation")
    if part:
        low, high = part["accuracy_interval"]
        console.print()
        console.print(
            f"[bold]Test accuracy {part['accuracy']:.2%}[/] (95 % interval {low:.1%} to {high:.1%}, "
            f"{part['count']:,} examples), top-3 {part['top_3_accuracy']:.2%}, loss {part['loss']:.3f}"
            + ("" if part["baseline_accuracy"] is None else f"; baseline {part['baseline_accuracy']:.2%}")
        )
        console.print(Padding(class_table(part, console.width, most=FOLD), (1, 0)))
        if len(part["classes"]) > FOLD:
            console.print(f"… and {len(part['classes']) - FOLD} more classes: alexnet slices")
        gate_lines(console, part["gates"])
    bad = (results.get("data") or {}).get("bad")
    if bad:
        console.print(f"[yellow]{bad} bad examples were dropped; they are listed in results.json.[/]")


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


def class_table(
    part: Mapping,
    width: int,
    most: int | None = None,
    compared: Mapping[tuple[str, ...], compare.Change] | None = None,
) -> Table:
    """The classes of an evaluation, in its order.

    Args:
        part: the evaluation of a run's results.
        width: of the terminal.
        most: show no more than so many.
        compared: changes against another run, by class.
    """
    rows = part["classes"][:most]
    few = [row["count"] < (part.get("smallest_slice") or 0) for row in rows]
    taken_for = [
        f"{plain(row['mostly_taken_for'])} ({row['mostly_taken_for_count']})" if row["mostly_taken_for"] else ""
        for row in rows
    ]
    columns = [
        names([row["class_name"] for row in rows]),
        counts([row["count"] for row in rows], few),
        numbers("recall", [percent(row["recall"]) for row in rows], style="bold"),
        Bars(
            "",
            [],
            shares=[(row["recall"], *row["recall_interval"]) for row in rows],
            styles=["green" if row["passed"] else "red" for row in rows],
            few=few,
        ),
        intervals([row["recall_interval"] for row in rows], rank=4),
    ]
    if compared is not None:
        columns += changes([compared.get((row["class_name"],)) for row in rows])
    elif part["baseline_accuracy"] is not None:
        columns.append(baseline([row["recall"] for row in rows], [row["baseline_recall"] for row in rows]))
    areas = [row.get("auc") for row in rows]
    if any(area is not None for area in areas):
        columns.append(numbers("AUC", [fraction(area) for area in areas], rank=6))
    return table(
        [
            *columns,
            numbers("precision", [percent(row["precision"]) for row in rows], rank=2),
            numbers("F1", [percent(row["f1"]) for row in rows], rank=5),
            Column("taken for", [Text(text) for text in taken_for], rank=3, widest=NAME),
            Column("gates", [PASSED if row["passed"] else FAILED for row in rows]),
        ],
        width,
    )


def slice_table(
    found: Mapping, width: int, compared: Mapping[tuple[str, ...], compare.Change] | None = None
) -> Table:
    """Slices as in schema.Slices, in their order; `compared` by values in the order of their features."""
    rows = found["rows"]
    few = [row["too_small"] for row in rows]
    columns = [
        *(names([row["values"][k] for row in rows], plain(name)) for k, name in enumerate(found["features"])),
        counts([row["count"] for row in rows], few),
        numbers("accuracy", [percent(row["accuracy"]) for row in rows], style="bold"),
        Bars(
            "",
            [],
            shares=[(row["accuracy"], *row["accuracy_interval"]) for row in rows],
            styles=["bright_black" if small else "cyan" for small in few],
            few=few,
        ),
        intervals([row["accuracy_interval"] for row in rows], rank=2),
    ]
    if compared is not None:
        columns += changes([compared.get(tuple(row["values"])) for row in rows])
    elif any(row["baseline_accuracy"] is not None for row in rows):
        columns.append(baseline([row["accuracy"] for row in rows], [row["baseline_accuracy"] for row in rows]))
    return table([*columns, numbers("loss", [fraction(row["loss"]) for row in rows], rank=3)], width)


def counts(values: Sequence[int], few: Sequence[bool]) -> Column:
    """Numbers of examples; those that are too few to judge by are marked."""
    cells = [Text(f"few {n:,}", "yellow") if small else Text(f"{n:,}") for n, small in zip(values, few, strict=True)]
    return Column("n", cells, right=True)


def intervals(values: Sequence[Sequence[float]], rank: int) -> Column:
    """95 % intervals of shares."""
    return numbers("interval", [f"{low:.1%}–{high:.1%}" for low, high in values], rank, "dim")


def baseline(values: Sequence[float], before: Sequence[float | None]) -> Column:
    """Changes against the baseline."""
    texts = ["" if old is None else points(new - old) for new, old in zip(values, before, strict=True)]
    return numbers("change", texts, rank=1)


def change_text(found: compare.Change) -> Text:
    """In percentage points, in the colour of the verdict."""
    return Text(points(found.change), VERDICTS[found.verdict].style)


def changes(found: Sequence[compare.Change | None], other: str = "other") -> list[Column]:
    """The other run's share, the change, the corrected p-value, and what to make of it."""

    def texts(show: Callable[[compare.Change], str]) -> list[str]:
        return ["" if change is None else show(change) for change in found]

    return [
        numbers(other, texts(lambda c: percent(c.first))),
        Column("change", [Text("") if c is None else change_text(c) for c in found], right=True),
        numbers("p", texts(lambda c: p_value(c.corrected)), rank=1),
        Column("verdict", [Text("") if c is None else VERDICTS[c.verdict] for c in found]),
    ]


def slices(
    console: Console,
    found: Mapping,
    chosen: Mapping | None = None,
    other: Mapping | None = None,
    how: Sequence[str] = (),
    changed: Mapping[tuple[str, ...], compare.Change] | None = None,
) -> None:
    """The classes of a run, or other slices, worst first.

    Args:
        found: results of the run.
        chosen: as schema.Slices; None for the classes.
        other: results of the run to compare with, if any.
        how: sentences on the comparison.
        changed: by class or slice.
    """
    part = found["evaluation"]
    low, high = part["accuracy_interval"]
    console.print(
        Text.assemble(
            (plain(f"Run {found['run']} ({found['preset']})"), "bold"),
            f": test accuracy {part['accuracy']:.2%} (95 % interval {low:.1%} to {high:.1%}), n={part['count']:,}",
        )
    )
    if other:
        accuracy = other["evaluation"]["accuracy"]
        lines(console, [f"Other: run {other['run']} ({other['preset']}), test accuracy {accuracy:.2%}", *how])
    smallest = part.get("smallest_slice") or 0
    if chosen:
        shown, small = slice_table(chosen, console.width, changed), any(row["too_small"] for row in chosen["rows"])
    else:
        shown = class_table(part, console.width, compared=changed)
        small = any(row["count"] < smallest for row in part["classes"])
    console.print(Padding(shown, (1, 0)))
    if small:
        what = f"few: fewer than {smallest} examples (evaluation.smallest_slice), not to be judged by."
        lines(console, [what], "yellow")
    if changed is not None:
        lines(console, [compare.correction(len(changed), "slices" if chosen else "classes")], "dim")
    if not chosen:
        gate_lines(console, part["gates"])


def lines(console: Console, texts: Sequence[str], style: str = "") -> None:
    """Sentences that may hold data."""
    for text in texts:
        console.print(Text(plain(text), style))


def comparison(console: Console, found: Sequence[compare.Comparison]) -> None:
    """Runs against the first one: overall, then the classes; many classes are folded."""
    for part in found:
        console.print(Text(f"Run {part.run} against {part.first}", "bold"))
        lines(console, part.how)
        whole = part.overall
        low, high = whole.interval
        examples = ""
        if whole.lost is not None:
            examples = f"; {whole.lost:,} examples right only in the first, {whole.gained:,} only in this one"
        console.print(
            Text.assemble(
                VERDICTS[whole.verdict],
                f": accuracy {whole.first:.2%} → {whole.share:.2%}, {points(whole.change)} points "
                f"(95 % interval {points(low)} to {points(high)}), p\u00a0{p_words(whole.corrected)}{examples}",
            )
        )
        shown = part.classes[:FOLD]
        console.print(Padding(change_table(shown, console.width), (1, 0)))
        if len(part.classes) > FOLD:
            telling = sum(change.verdict != "chance" for change in part.classes[FOLD:])
            more = f", {telling} of them beyond chance" if telling else ""
            left = len(part.classes) - FOLD
            lines(console, [f"… and {left:,} more classes{more}: --format csv or --html shows all", ""])
    lines(console, [compare.correction(len(found[0].classes), "classes", len(found))], "dim")


def change_table(classes: Sequence[compare.Change], width: int) -> Table:
    """Classes and how their recall changed, in the order given."""
    paired = all(change.lost is not None for change in classes)
    columns = [
        names([change.values[0] for change in classes]),
        numbers("n", [f"{change.count:,}" for change in classes]),
        numbers("first", [percent(change.first) for change in classes]),
        numbers("this", [percent(change.share) for change in classes], style="bold"),
        Column("change", [change_text(change) for change in classes], right=True),
        numbers(
            "interval", [f"{points(c.interval[0])} to {points(c.interval[1])}" for c in classes], rank=1, style="dim"
        ),
    ]
    if paired:
        columns.append(numbers("lost/gained", [f"{change.lost:,}/{change.gained:,}" for change in classes], rank=2))
    columns += [
        numbers("p", [p_value(change.corrected) for change in classes]),
        Column("verdict", [VERDICTS[change.verdict] for change in classes]),
    ]
    return table(columns, width)


def history(console: Console, name: str, pasts: Sequence[past.Past]) -> None:
    """The evaluations of the same data, oldest first, and the course of the classes."""
    times = sum(len(one.runs) for one in pasts)
    shown = pasts[-FOLD:]
    console.print(
        Text.assemble(
            (plain(name), "bold"),
            f": {len(pasts):,} evaluation{'s' * (len(pasts) > 1)} in {times:,} run{'s' * (times > 1)}, oldest first",
        )
    )
    if len(shown) < len(pasts):
        lines(console, [f"… {len(pasts) - len(shown):,} earlier ones: --format csv shows all"], "dim")
    states = [
        Text.assemble(
            ("✓ blessed", "green") if one.blessed else ("✗ not blessed", "yellow"),
            (" ↑ pushed", "bold green") if one.pushed else "",
        )
        for one in shown
    ]
    before = [None, *pasts][-len(shown) - 1 : -1]
    moved = [
        "" if old is None else points(one.accuracy - old.accuracy) for one, old in zip(shown, before, strict=True)
    ]
    columns = [
        Column("run", [Text(one.run + (f" ×{len(one.runs)}" if len(one.runs) > 1 else "")) for one in shown]),
        Column("preset", [Text(plain(one.preset)) for one in shown], rank=3, widest=NAME),
        numbers("n", [f"{one.count:,}{' ' if one.same_data else '*'}" for one in shown]),
        numbers("accuracy", [f"{one.accuracy:.2%}" for one in shown], style="bold"),
        Bars(
            "",
            [],
            shares=[(one.accuracy, *one.accuracy_interval) for one in shown],
            styles=["green" if one.blessed else "yellow" for one in shown],
        ),
        intervals([one.accuracy_interval for one in shown], rank=2),
        numbers("change", moved, rank=1),
        Column("gates", states),
    ]
    console.print(Padding(table(columns, console.width), (1, 0, 0, 0)))
    if any(len(one.runs) > 1 for one in shown):
        lines(console, ["×: so many runs show this evaluation; the later ones took it from the cache"], "dim")
    if not all(one.same_data for one in shown):
        lines(console, ["*: the data are not those of the evaluation before"], "dim")
    courses = past.courses(pasts)
    told = past.telling(courses, FOLD)
    lowest = min(min(course.known) for course in told)
    console.print(Padding(course_table(told, lowest, console.width), (1, 0)))
    if len(told) < len(courses):
        lines(console, [f"The worst and the most changed of {len(courses):,} classes; --format csv shows all."])
    lines(console, [f"{SPARKS[0]} {lowest:.0%} … {SPARKS[-1]} 100%"], "dim")


def course_table(shown: Sequence[past.Course], lowest: float, width: int) -> Table:
    """The recall of classes over the evaluations, drawn from `lowest` to 1."""
    columns = [
        names([course.class_name for course in shown]),
        Column("recall", [Text(sparkline(course.recalls, lowest)) for course in shown]),
        numbers("first", [percent(course.known[0]) for course in shown]),
        numbers("latest", [percent(course.recalls[-1]) for course in shown], style="bold"),
        numbers("change", [points(course.change) for course in shown]),
        numbers("lowest", [percent(min(course.known)) for course in shown], rank=1),
        numbers("highest", [percent(max(course.known)) for course in shown], rank=1),
    ]
    return table(columns, width)


def sparkline(values: Sequence[float | None], lowest: float, most: int = 24) -> str:
    """The latest values as small columns from `lowest` to 1; a space where there is none."""
    scale = (len(SPARKS) - 1) / ((1 - lowest) or 1)
    return "".join(" " if value is None else SPARKS[round((value - lowest) * scale)] for value in values[-most:])


def gate_lines(console: Console, gates: Sequence[Mapping]) -> None:
    """The failed gates one by one, the others as a number."""
    failed = [gate for gate in gates if not gate["passed"]]
    for gate in failed[:FOLD]:
        console.print(Text("✗ gate failed: ", "bold red") + Text(plain(gate["words"])))
    passed = len(gates) - len(failed)
    if passed:
        which = f"{passed} other" if failed else f"all {passed}"
        console.print(Text("✓ ", "green") + Text(f"{which} gate{'s' if passed > 1 else ''} passed"))


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


def runs(console: Console, found: Sequence[Mapping], verdicts: Sequence[str]) -> None:
    """Two lines a run, in the order given: the second is the verdict, which may be long."""
    presets = [r["preset"] if r["preset"] == r["name"] else f"{r['preset']} ({r['name']})" for r in found]
    width = max(map(len, presets))
    for result, preset, verdict in zip(found, presets, verdicts, strict=True):
        part = result.get("evaluation")
        accuracy = f"{part['accuracy']:.2%}" if part else "–"
        date = result["started"].replace("T", " ")[:16]
        console.print(Text(f"{result['run']}  {date}  {preset:<{width}}  {accuracy:>7}", "bold"))
        style = {"pushed": "green", "not pushed": "yellow", "failed": "red"}.get(result["state"], "dim")
        console.print(Padding(Text(verdict, style), (0, 0, 0, 2)))


def trials(console: Console, found: Mapping) -> None:
    """The trials of a run's search, the best first."""
    rows = found["tuning"]
    columns = [
        numbers("trial", [str(row["trial"]) for row in rows]),
        numbers("validation accuracy", [f"{row['accuracy']:.2%}" for row in rows], style="bold"),
    ]
    if any(row["epochs"] for row in rows):
        columns.append(numbers("epochs", [str(row["epochs"]) for row in rows], rank=1))
    for rank, key in enumerate(rows[0]["values"], 2):
        values = [setting(row["values"].get(key, "")) for row in rows]
        columns.append(numbers(key.partition(".")[2], values, rank))
    console.print(f"Search of run {found['run']}, the best first:")
    console.print(table(columns, console.width))
