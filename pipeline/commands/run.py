"""`alexnet run`."""

from __future__ import annotations

import sys

import click

from core import output
from core.errors import UserError
from core.exit_codes import USER_ERROR
from core.workdir import Workdir
from pipeline.commands.common import EXIT_CODES, settings_options, tell, workdir_option


@click.command("run", epilog=EXIT_CODES)
@settings_options
@click.option(
    "--data",
    metavar="SOURCE",
    help="A TensorFlow Datasets name, or a folder or an archive: of images by class, or CIFAR-10.",
)
@click.option("--data-dir", metavar="DIR", help="Folder of prepared TensorFlow Datasets.")
@workdir_option
@click.option("--from", "first", metavar="NODE", help="Start with this node, on the results of the last run.")
@click.option("--to", "last", metavar="NODE", help="Stop after this node.")
@click.option("--fresh", is_flag=True, help="Reuse nothing of earlier runs.")
def command(
    preset: str,
    changes: tuple[str, ...],
    data: str | None,
    data_dir: str | None,
    workdir: str,
    first: str | None,
    last: str | None,
    fresh: bool,
) -> None:
    """Run the pipeline: ingest, check, train, evaluate, and push the model if it passes its gates."""
    from rich.console import Console
    from rich.live import Live

    from core import settings
    from pipeline import display, nodes, notice
    from pipeline import run as runner

    chosen = settings.load(preset, changes, **{"data.source": data, "data.data_dir": data_dir})
    if said := notice.problem(chosen.notify):
        tell(said)
    console = Console(highlight=False)
    try:
        place = Workdir(workdir)
        chosen, said = runner.localised(chosen)
        planned = nodes.planned(chosen)
        first = nodes.find(first, planned, "--from") if first else None
        last = nodes.find(last, planned, "--to") if last else None
        nodes.part(planned, first, last)
        if said:
            click.echo(said, err=True)
        request = runner.Request(chosen, preset, first, last, fresh)
        output.prepare(forgiving=True)  # a run goes on where nobody reads what it says
        if console.is_terminal:
            with Live(console=console, refresh_per_second=8, transient=False) as live:
                code, found = runner.run(request, place, lambda state, line: live.update(display.live(state)))
        else:
            code, found = runner.run(request, place, lambda state, line: line and print(line, flush=True))
    except Exception as problem:
        if said := notice.failed(chosen, problem):
            tell(said)
        raise
    folder = place.run(found["run"])
    try:
        display.summary(console, found)
        console.print()
        if found["state"] != "failed":
            display.outcome(console, found, folder)
        elif code == USER_ERROR:
            raise UserError(found["error"])
        else:
            click.echo(f"alexnet: {found['error']} (log: {folder / runner.LOG})", err=True)
        display.last_line(console, found, folder)
    finally:
        if said := notice.ended(chosen.notify, found, code, folder):
            tell(said)
    sys.exit(code)
