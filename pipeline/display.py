"""What the terminal shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline import progress

FOLD = 20  # classes; more are folded in the summary at the end of a run
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
        console.print(Padding(class_table(part["classes"][:FOLD], part["baseline_accuracy"] is not None), (1, 0)))
        if len(part["classes"]) > FOLD:
            console.print(f"… and {len(part['classes']) - FOLD} more classes: alexnet slices")
        gate_lines(console, part["gates"])
    bad = (results.get("data") or {}).get("bad")
    if bad:
        console.print(f"[yellow]{bad} bad examples were dropped; they are listed in results.json.[/]")


def class_table(classes: Sequence[Mapping], with_baseline: bool) -> Table:
    """Per-class results, in the order given."""
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True, show_edge=False)  # fits into 80 columns
    table.add_column("class", min_width=8, overflow="ellipsis", no_wrap=True)
    for name in ("n", "recall", "interval", "precision", "F1"):
        table.add_column(name, justify="right", no_wrap=True)
    if with_baseline:
        table.add_column("change", justify="right", no_wrap=True)
    table.add_column("taken for")  # the one that folds where the terminal is narrow
    table.add_column("gates", no_wrap=True)
    for row in classes:
        low, high = row["recall_interval"]
        cells = [
            Text(row["class_name"]),
            Text(f"{row['count']:,}"),
            Text(f"{row['recall']:.1%}", "bold"),
            Text(f"{low:.1%}–{high:.1%}", "dim"),
            Text(percent(row["precision"])),
            Text(percent(row["f1"])),
        ]
        if with_baseline:
            before = row["baseline_recall"]
            cells.append(Text("" if before is None else f"{row['recall'] - before:+.1%}"))
        confused = row["mostly_taken_for"]
        cells.append(Text(f"{confused} ({row['mostly_taken_for_count']})" if confused else ""))
        cells.append(Text("✓ pass", "green") if row["passed"] else Text("✗ fail", "bold red"))
        table.add_row(*cells)
    return table


def gate_lines(console: Console, gates: Sequence[Mapping]) -> None:
    """The failed gates one by one, the others as a number."""
    failed = [gate for gate in gates if not gate["passed"]]
    for gate in failed[:FOLD]:
        console.print(Text("✗ gate failed: ", "bold red") + Text(gate["words"]))
    passed = len(gates) - len(failed)
    if passed:
        which = f"{passed} other" if failed else f"all {passed}"
        console.print(Text("✓ ", "green") + Text(f"{which} gate{'s' if passed > 1 else ''} passed"))


def percent(share: float | None) -> str:
    """A share with one decimal; a dash where there is none."""
    return "–" if share is None else f"{share:.1%}"


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
