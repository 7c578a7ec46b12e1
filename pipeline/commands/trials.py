"""`alexnet trials`."""

from __future__ import annotations

import json

import click

from core.errors import UserError
from core.workdir import Workdir, passed_over
from pipeline.commands.common import format_option, tell, workdir_option, write, write_csv


@click.command("trials")
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest search if not given.")
@click.option("--output", metavar="FILE", help="Write the best recipe as a preset, for alexnet run --preset FILE.")
@format_option
def command(workdir: str, run_id: str | None, output: str | None, form: str) -> None:
    """Show what the search of a run (tuner.trials) tried, the best first, or store what it found as a preset."""
    place = Workdir(workdir)
    searches = [result for result in place.results() if result.get("tuning")]
    if not (searches or run_id):
        raise UserError(f"{place.path} holds no search yet: start one with `alexnet run --set tuner.trials=8`.")
    found = place.find(run_id) if run_id else searches[-1]
    if not run_id and (passed := passed_over(place.ended(), found["run"])):
        tell(passed)
    if not found.get("tuning"):
        raise UserError(f"Run {found['run']} made no search: it ran without tuner.trials.")
    if output:
        from core import settings

        stored = place.run(found["run"]) / "settings.yaml"
        best = found["tuning"][0]
        text = settings.dump(settings.load(str(stored), ["tuner.trials=null"], **best["values"]))
        write(output, f"# Validation accuracy {best['accuracy']:.2%} in the search of run {found['run']}\n{text}")
    if form == "json":
        click.echo(json.dumps({"run": found["run"], "trials": found["tuning"]}, indent=1))
    elif form == "csv":
        write_csv(
            [{key: row[key] for key in ("trial", "accuracy", "epochs")} | row["values"] for row in found["tuning"]]
        )
    else:
        from rich.console import Console

        from review import terminal

        terminal.trials(Console(highlight=False), found)
        if output:
            click.echo(f"Preset: {output}")
