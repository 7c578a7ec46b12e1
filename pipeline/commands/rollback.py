"""`alexnet rollback`."""

from __future__ import annotations

import click

from core import who
from core.output import quiet
from core.workdir import Workdir
from pipeline.commands.common import destination_option, given_reason, tell, who_option, workdir_option


@click.command("rollback")
@click.option("--to", metavar="VERSION", help="The one that served before if not given.")
@click.option("--reason", required=True, metavar="WHY", help="For those who come after you.")
@workdir_option
@click.option("--name", metavar="DATA", help="The data, as results are filed; those of the latest run if not given.")
@destination_option
@who_option
def command(
    to: str | None, reason: str, workdir: str, name: str | None, destination: str | None, by: str | None
) -> None:
    """Let an earlier model serve once more: its files become the newest version, which servers take.

    It is also the next run's baseline. What it replaces stays, and no run pushes that again: `alexnet push` does.
    """
    with quiet():
        from components import decisions
        from pipeline import decided

    reason = given_reason(reason, "--reason")
    place = Workdir(workdir)
    base = decided.destination(place, name, destination)
    entry = decisions.rollback(base, to, who.name(by), reason, decided.ensure_serves)
    decided.refresh(place, base, tell)
    click.echo(decided.lines(entry, base))
