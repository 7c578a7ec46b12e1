"""`alexnet history`."""

from __future__ import annotations

import json

import click

from core.workdir import Workdir, passed_over
from pipeline.commands.common import format_option, tell, workdir_option, write, write_csv


@click.command("history")
@workdir_option
@click.option("--name", metavar="DATA", help="The data, as results are filed; those of the latest run if not given.")
@click.option("--png", metavar="FILE", help="Draw it as PNG.")
@click.option("--svg", metavar="FILE", help="Draw it as SVG.")
@click.option("--html", metavar="FILE", help="Write a page with all evaluations and classes.")
@format_option
def command(workdir: str, name: str | None, png: str | None, svg: str | None, html: str | None, form: str) -> None:
    """Show accuracy and every class over all evaluations of the same data, oldest first."""
    from review import history

    ended = Workdir(workdir).ended()
    if passed := passed_over(ended):
        tell(passed)
    name, pasts = history.collect([one for one in ended if isinstance(one, dict)], name)
    if png or svg:
        from review import figures

        for path, kind in ((png, "png"), (svg, "svg")):
            if path:
                write(path, figures.save(figures.draw_history(pasts), kind))
    if html:
        write(html, history.page(name, pasts))
    if form == "json":
        click.echo(json.dumps(history.record(name, pasts), indent=1))
    elif form == "csv":
        write_csv(history.rows(pasts))
    else:
        from rich.console import Console

        from review import terminal

        terminal.history(Console(highlight=False), name, pasts)
