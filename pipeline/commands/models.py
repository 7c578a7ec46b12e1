"""`alexnet models`."""

from __future__ import annotations

import dataclasses
import json

import click

from core.output import quiet
from core.workdir import Workdir
from pipeline.commands.common import destination_option, format_option, tell, workdir_option, write_csv


@click.command("models")
@workdir_option
@click.option("--name", metavar="DATA", help="The data, as results are filed; those of the latest run if not given.")
@destination_option
@click.option("--log", "logged", is_flag=True, help="All pushes and decisions instead, the newest first.")
@format_option
def command(workdir: str, name: str | None, destination: str | None, logged: bool, form: str) -> None:
    """List what was pushed and what waits for approval, the newest first, and what serves now."""
    with quiet():
        from components import decisions
        from pipeline import decided

    place = Workdir(workdir)
    base = decided.destination(place, name, destination)
    decided.refresh(place, base, tell)
    rows = decisions.log(base)[::-1] if logged else [dataclasses.asdict(one) for one in decisions.models(base)]
    if form == "json":
        click.echo(json.dumps({"destination": base, "log" if logged else "models": rows}, indent=1))
    elif form == "csv":
        write_csv([{key: _cell(value) for key, value in row.items()} for row in rows])
    elif not rows:
        click.echo(f"No model is in {base} yet: start a run with `alexnet run`.")
    else:
        from rich.console import Console

        from review import terminal

        console = Console(highlight=False)
        if logged:
            terminal.decisions(console, rows)
        else:
            terminal.models(console, base, rows)


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return ", ".join(json.dumps(one) if isinstance(one, dict) else str(one) for one in value)
    return value
