"""`alexnet push`."""

from __future__ import annotations

import click

from core import who
from core.output import quiet
from core.workdir import Workdir
from pipeline.commands.common import given_reason, tell, who_option, workdir_option


@click.command("push")
@click.argument("run", metavar="RUN")
@click.option("--reason", required=True, metavar="WHY", help="For those who come after you.")
@click.option(
    "--against",
    multiple=True,
    metavar="GATE",
    help="What the model did not pass, such as accuracy or 'recall of cat'; all of it has to be named, each alike.",
)
@workdir_option
@who_option
def command(run: str, reason: str, against: tuple[str, ...], workdir: str, by: str | None) -> None:
    """Push the model of a run by hand, also one that did not pass its gates.

    What it goes against is named in full, and stays with the model: in its version, in `alexnet models`, in the
    report and on the model card. RUN is a run's id or its beginning.
    """
    with quiet():
        from pipeline import decided

    reason = given_reason(reason, "--reason")
    place = Workdir(workdir)
    entry, base = decided.push(place, run, against, who.name(by), reason)
    decided.refresh(place, base, tell)
    click.echo(decided.lines(entry, base))
