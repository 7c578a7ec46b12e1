"""`alexnet reject`."""

from __future__ import annotations

import click

from pipeline.commands import answers


@click.command("reject")
@answers.options
def command(run: str, note: str, workdir: str, destination: str | None, by: str | None) -> None:
    """Refuse the model of a run that waits for approval, and remove it; no run brings it again.

    RUN is a run's id or its beginning. With --destination it need not be a run of this machine.
    """
    answers.give("reject", run, note, workdir, destination, by)
