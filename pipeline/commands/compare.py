"""`alexnet compare`."""

from __future__ import annotations

import json

import click

from core.errors import UserError
from core.workdir import Workdir
from pipeline.commands.common import format_option, workdir_option, write, write_csv


@click.command("compare")
@click.argument("run_ids", nargs=-1, metavar="RUN RUN...")
@workdir_option
@click.option("--html", metavar="FILE", help="Write a page with all classes as well.")
@format_option
def command(run_ids: tuple[str, ...], workdir: str, html: str | None, form: str) -> None:
    """Say which classes got better or worse than in the first of these runs, beyond chance."""
    from review import compare

    if len(run_ids) < 2:
        raise UserError("Name two runs or more, the one to compare with first: alexnet compare RUN RUN.")
    runs = [Workdir(workdir).find(run_id, evaluated=True) for run_id in run_ids]
    found = compare.compare(runs)
    if html:
        write(html, compare.page(runs, found))
    if form == "json":
        click.echo(json.dumps({"comparisons": [part.record() for part in found]}, indent=1))
    elif form == "csv":
        write_csv([row for part in found for row in part.rows()])
    else:
        from rich.console import Console

        from review import terminal

        terminal.comparison(Console(highlight=False), found)
