"""`alexnet doctor`."""

from __future__ import annotations

import sys

import click

from core.exit_codes import FAILURE
from core.workdir import Workdir
from kubeflow.findings import MISSING, Finding
from pipeline.commands.common import settings_options, show, tell, workdir_option

EPILOG = """
Exit codes: 0 nothing is missing; 1 something is missing that a run would fail for; 2 a mistake in arguments or
settings; 130 interrupted.
"""


@click.command("doctor", epilog=EPILOG)
@settings_options
@click.option("--data", metavar="SOURCE", help="As of `alexnet run`.")
@click.option("--data-dir", metavar="DIR", help="As of `alexnet run`.")
@workdir_option
@click.option(
    "--bug-report", is_flag=True, help="Print what belongs into a bug report, as Markdown, without secrets."
)
def command(
    preset: str,
    changes: tuple[str, ...],
    data: str | None,
    data_dir: str | None,
    workdir: str,
    bug_report: bool,
) -> None:
    """Look at what a run needs: Python, libraries, memory, disk, GPU, data, where models are pushed.

    Takes what `run` takes. One line each: fine, missing (a run would fail), unknown (it could not be seen), or a
    note; below it, how to mend it. Nothing is changed, but a push destination in an object store is tried with small
    objects, which are removed again.
    """
    from pipeline import doctor

    place = Workdir(workdir)
    chosen, unread = None, None
    try:
        from core import settings

        chosen = settings.load(preset, changes, **{"data.source": data, "data.data_dir": data_dir})
    except ImportError as problem:
        unread = f"The settings cannot be read ({problem}), so data and pushes were not looked at."
    found: list[Finding] = []
    for one in doctor.examine(chosen, place):
        found.append(one)
        if not bug_report:
            show(one)
    if unread:
        tell(unread)
    if bug_report:
        from pipeline import bug_report as report

        click.echo(report.text(found, chosen, place), nl=False)
    if any(one.state == MISSING for one in found):
        sys.exit(FAILURE)
