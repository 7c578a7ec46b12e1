"""`alexnet clean`."""

from __future__ import annotations

import time

import click

from core.workdir import Workdir
from pipeline.commands.common import workdir_option


@click.command("clean")
@workdir_option
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    metavar="N",
    help="Of each data, runs whose artifacts stay for the cache of the next one: 5, or 1 with --older-than.",
)
@click.option("--older-than", "older", metavar="AGE", help="Only what was begun so long ago, such as 30d, 12h or 8w.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and how much room that frees.")
def command(workdir: str, keep: int | None, older: str | None, dry_run: bool) -> None:
    """Remove the artifacts of earlier runs, and what killed ones have left.

    Results, reports and predictions stay, and with them what `runs`, `history`, `report`, `slices` and `compare`
    show; and so do what was pushed, the baseline, and what waits for somebody's word. With --keep 0 the cache is
    emptied as well. To have it done after each run: the setting retention.runs.
    """
    from pipeline import cleaning

    place = Workdir(workdir)
    before = time.time() - cleaning.age(older) if older else None
    if keep is None:
        keep = 1 if older else cleaning.KEEP
    with cleaning.alone(place):
        made = cleaning.plan(place, keep, before)
        for line in cleaning.told(made):
            click.echo(line)
        if not dry_run:
            cleaning.remove(place, made)
    click.echo(cleaning.summed_up(made, dry_run))
