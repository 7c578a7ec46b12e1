"""`alexnet suspects`."""

from __future__ import annotations

import json
import pathlib

import click

from core import corrections, errors, files
from core.errors import UserError
from core.workdir import Workdir
from pipeline.commands.common import format_option, tell, workdir_option, write, write_csv


@click.command("suspects")
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option(
    "--output",
    metavar="FILE",
    help="Write the list to work through, for data.corrections; rows of a list there that have an action stay.",
)
@format_option
def command(workdir: str, run_id: str | None, output: str | None, form: str) -> None:
    """Name the test and validation examples whose labels are probably wrong, the least plausible first.

    By confident learning (Northcutt et al. 2021), in the run's EvaluationReport; their pictures are in the report. In
    the list that --output writes, fill in the column action: keep, drop, or the name of the right class. Then
    `alexnet run --set data.corrections=FILE` leaves these examples out or relabels them.
    """
    from review import run_report

    place = Workdir(workdir)
    target = files.absolute(output, "--output") if output else None
    found = place.find(run_id, evaluated=True, tell=tell)
    report, _ = run_report.load(place, found)
    if report.suspects is None:
        raise UserError(
            f"Run {found['run']} has not looked for wrong labels: it is of an older version or its report is gone, "
            "then run `alexnet run` again; or it has more than 1,000 classes, which is not supported."
        )
    rows = [
        {key: row.get(key, "") for key in corrections.COLUMNS}
        for row in (suspect.model_dump() for suspect in report.suspects.rows)
    ]
    if target:
        before = _content(target)
        write(target, corrections.text(corrections.merged(before, str(target), rows) if before else rows))
    if form == "json":
        record = {"run": found["run"], **report.suspects.model_dump(include={"judged", "total", "count"})}
        plain = [{key: value for key, value in row.items() if key != "action"} for row in rows]
        click.echo(json.dumps(record | {"suspects": plain}, indent=1))
    elif form == "csv":
        write_csv(rows) if rows else click.echo(",".join(corrections.COLUMNS))
    else:
        from rich.console import Console

        from review import suspects_terminal

        suspects_terminal.show(Console(highlight=False), found["run"], report.suspects)
        if target:
            click.echo(f"List: {output}", err=files.special(target))


def _content(path: pathlib.Path) -> bytes:
    """Of a list that is there already; b"" if there is none. Raises UserError."""
    if files.special(path) or not path.exists():
        return b""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UserError(errors.sentence(problem, path, "read")) from None
