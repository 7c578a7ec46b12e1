"""`alexnet figures`."""

from __future__ import annotations

import pathlib

import click

from core.errors import UserError
from core.workdir import Workdir
from pipeline.commands.common import workdir_option, write


@click.command("figures")
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option(
    "--output", required=True, metavar="DIR", help="Where the files go; files of the same names are replaced."
)
def command(workdir: str, run_id: str | None, output: str) -> None:
    """Draw a run for papers and READMEs, as PNG and SVG: curves, confusion matrix, mistakes, reliability, classes."""
    from review import figures

    place, folder = Workdir(workdir), pathlib.Path(output)
    found = place.find(run_id, evaluated=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"--output {output}: {problem.strerror}; name a folder.") from None
    made, missing = figures.draw(place, found)
    for name, figure in made.items():
        for kind in figures.KINDS:
            path = folder / f"{name}.{kind}"
            write(path, figures.save(figure, kind))
            click.echo(path)
    for name, why in missing.items():
        click.echo(f"Left out {name}: {why}.", err=True)
