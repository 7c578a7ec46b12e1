"""`alexnet runs`."""

from __future__ import annotations

import click

from core.workdir import Workdir
from pipeline.commands.common import workdir_option


@click.command("runs")
@workdir_option
def command(workdir: str) -> None:
    """List the runs that ended, the latest first: date, preset, accuracy, pushed or why not."""
    from rich.console import Console

    from review import terminal

    found = Workdir(workdir).ended()[::-1]
    if not found:
        click.echo(f"No finished runs in {workdir} yet: start one with `alexnet run`.")
        return
    terminal.runs(Console(highlight=False), found)
