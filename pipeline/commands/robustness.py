"""`alexnet robustness`."""

from __future__ import annotations

import json

import click

from core.harm import KINDS
from core.output import quiet
from core.workdir import Workdir
from pipeline.commands.common import format_option, tell, workdir_option, write_csv


@click.command("robustness")
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Of harm, several times for several; all."
)
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many test examples are harmed, about; 0: all.",
)
@format_option
def command(workdir: str, run_id: str | None, kinds: tuple[str, ...], examples: int, form: str) -> None:
    """Judge the model of a run on test examples with noise, blur, and other harm, and add that to its report.

    Each example is harmed in five strengths of each kind (Hendrycks and Dietterich 2019). To have it with every run,
    and a gate, set evaluation.corruptions.
    """
    place = Workdir(workdir)
    found = place.find(run_id, evaluated=True, tell=tell)
    with quiet():
        from pipeline import robustness

    chosen = tuple(kind for kind in KINDS if not kinds or kind in kinds)
    many = f"{examples:,}" if examples else "all"
    tell(f"Judging {many} test examples of run {found['run']}, each harmed in {5 * len(chosen)} ways")
    made = robustness.judge(place, found, chosen, examples)
    if form == "json":
        click.echo(json.dumps({"run": found["run"], **made.model_dump()}, indent=1))
    elif form == "csv":
        write_csv([{"kind": row.kind, **_by_strength(row.accuracies)} for row in made.kinds])
    else:
        from rich.console import Console

        from review import terminal

        terminal.corruptions(Console(highlight=False), made.model_dump())
        click.echo(f"Report: {place.run(found['run']) / 'report.html'}")


def _by_strength(accuracies: list[float]) -> dict[str, float]:
    return {f"strength_{number}": value for number, value in enumerate(accuracies, 1)}
