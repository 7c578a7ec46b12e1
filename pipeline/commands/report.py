"""`alexnet report`."""

from __future__ import annotations

import json

import click

from core import files
from core.errors import UserError
from core.workdir import Workdir
from pipeline.commands.common import tell, workdir_option, write


@click.command("report")
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option("--output", metavar="FILE", help="Copy the page there; a name that ends in .json takes the data.")
@click.option("--open", "opened", is_flag=True, help="Show it in the browser.")
@click.option("--schema", is_flag=True, help="Print the form of report.json as JSON Schema, and nothing else.")
def command(workdir: str, run_id: str | None, output: str | None, opened: bool, schema: bool) -> None:
    """Find the report of a run, or make it: one HTML file with everything about its evaluation."""
    from review import run_report
    from review.report import build

    if schema:
        click.echo(json.dumps(run_report.schema.Report.model_json_schema(), indent=1))
        return
    place = Workdir(workdir)
    target = files.absolute(output, "--output") if output else None
    name = build.REPORT if target and target.suffix == ".json" else build.PAGE
    path = run_report.find(place, place.find(run_id, evaluated=True, tell=tell), name)
    if target:
        if target != path:
            write(target, path.read_bytes())
        path = target
    click.echo(path, err=files.special(path))  # the page may go to standard output
    if opened and click.launch(str(path)):
        raise UserError(f"No browser could be started: open {path} in one.")
