"""`alexnet approve`."""

from __future__ import annotations

import click

from pipeline.commands import answers


@click.command("approve")
@answers.options
def command(run: str, note: str, workdir: str, destination: str | None, by: str | None) -> None:
    """Let the model of a run that waits for approval serve (push.approval: manual).

    RUN is a run's id or its beginning. With --destination it need not be a run of this machine.
    """
    answers.give("approve", run, note, workdir, destination, by)
