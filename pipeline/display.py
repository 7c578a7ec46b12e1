"""What the terminal shows of a run under way, and at its end."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from core.errors import UserError
from pipeline import progress
from review import notes, results, run_report, terminal
from review.report import build

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


def summary(console: Console, found: Mapping) -> None:
    """The end of a run: what was measured."""
    part = found.get("evaluation")
    if part:
        low, high = part["accuracy_interval"]
        console.print()
        console.print(
            f"[bold]Test accuracy {part['accuracy']:.2%}[/] (95 % interval {low:.1%} to {high:.1%}, "
            f"{part['count']:,} examples), top-3 {part['top_3_accuracy']:.2%}, loss {part['loss']:.3f}"
            + ("" if part["baseline_accuracy"] is None else f"; baseline {part['baseline_accuracy']:.2%}")
        )
        console.print(Padding(terminal.class_table(part, console.width, most=terminal.FOLD), (1, 0)))
        if len(part["classes"]) > terminal.FOLD:
            console.print(f"… and {len(part['classes']) - terminal.FOLD} more classes: alexnet slices")
        if part.get("corruptions"):
            terminal.lines(console, [terminal.harm_sentence(part["corruptions"])])
        terminal.gate_lines(console, part["gates"])
    terminal.duplicate_lines(console, found)
    bad = (found.get("data") or {}).get("bad")
    if bad:
        console.print(f"[yellow]{bad} bad examples were dropped; they are listed in results.json.[/]")


def outcome(console: Console, found: Mapping, folder: pathlib.Path) -> None:
    """What became of a run that did not fail, and where it lies."""
    if found["state"] == "interrupted":
        console.print("Interrupted; the next run continues where this one was.")
    else:
        verdict = results.verdict(found)
        # As plain text: the name of a class may look like markup.
        console.print(f"{verdict[0].upper()}{verdict[1:]}.", style="bold", markup=False, soft_wrap=True)
        if found["state"] == "waiting":
            run = found["run"]
            said = f"Decide: alexnet approve {run} --note WHY, or alexnet reject {run} --note WHY"
            console.print(said, soft_wrap=True, markup=False, highlight=False)
        if found.get("pushed"):
            console.print(f"Model: {found['pushed']['path']}", soft_wrap=True, markup=False)
        if found.get("evaluation"):
            _not_to_be_missed(console, folder)
            console.print(f"Report: {folder / 'report.html'}", soft_wrap=True, markup=False)


def _not_to_be_missed(console: Console, folder: pathlib.Path) -> None:
    """The lines of the report's top, where there is a report."""
    with contextlib.suppress(UserError):
        terminal.lines(console, notes.of_report(run_report.parse(folder / build.REPORT)), "yellow")


def last_line(console: Console, found: Mapping, folder: pathlib.Path) -> None:
    """What a run took, and where its results are."""
    console.print(
        f"Run {found['run']}: {found['seconds']:.0f} s, peak memory {found['peak_memory_mb'] / 1024:.1f} GiB; "
        f"results and log: {folder}",
        soft_wrap=True,
    )
