"""`alexnet reject`."""

from __future__ import annotations

import click

from core import who
from core.output import quiet
from core.workdir import Workdir
from pipeline.commands.common import destination_option, given_reason, tell, who_option, workdir_option


@click.command("reject")
@click.argument("run", metavar="RUN")
@click.option("--note", required=True, metavar="WHY", help="For those who come after you.")
@workdir_option
@destination_option
@who_option
def command(run: str, note: str, workdir: str, destination: str | None, by: str | None) -> None:
    """Refuse the model of a run that waits for approval, and remove it; no run brings it again.

    RUN is a run's id or its beginning. With --destination it need not be a run of this machine.
    """
    with quiet():
        from components import decisions
        from pipeline import decided

    note = given_reason(note, "--note")
    place = Workdir(workdir)
    run, base = decided.run_named(place, run, destination)
    entry = decisions.reject(base, run, who.name(by), note)
    decided.refresh(place, base, tell)
    click.echo(decided.lines(entry, base))
