"""`alexnet figures`."""

from __future__ import annotations

import pathlib

import click

from core import files
from core.workdir import Workdir
from pipeline.commands.common import tell, workdir_option, write


@click.command("figures")
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option(
    "--output", required=True, metavar="DIR", help="Where the files go; files of the same names are replaced."
)
def command(workdir: str, run_id: str | None, output: str) -> None:
    """Draw a run for papers and READMEs, as PNG and SVG: curves, confusion matrix, mistakes, reliability, classes."""
    from review import figures

    place, folder = Workdir(workdir), files.folder(output, "--output", written=True)
    found = place.find(run_id, evaluated=True, tell=tell)
    folder.mkdir(parents=True, exist_ok=True)
    made, missing = figures.draw(place, found)
    paths = [pathlib.Path(output, f"{name}.{kind}") for name in made for kind in figures.KINDS]
    for path in paths:
        write(path, figures.save(made[path.stem], path.suffix[1:]))
    for path in paths:  # when all are there, whoever reads this
        click.echo(path)
    for name, why in missing.items():
        click.echo(f"Left out {name}: {why}.", err=True)
