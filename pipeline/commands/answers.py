"""What `alexnet approve` and `alexnet reject` have in common: they answer for a model that waits."""

from __future__ import annotations

from collections.abc import Callable

import click

from core import who
from core.output import quiet
from core.workdir import Workdir
from pipeline.commands.common import destination_option, given_reason, tell, who_option, workdir_option


def options(command: Callable) -> Callable:
    """Adds RUN, --note, --workdir, --destination and --by."""
    note = click.option("--note", required=True, metavar="WHY", help="For those who come after you.")
    run = click.argument("run", metavar="RUN")
    return run(note(workdir_option(destination_option(who_option(command)))))


def give(answer: str, run: str, note: str, workdir: str, destination: str | None, by: str | None) -> None:
    """Decides about the model of a run by a function of `components.decisions`, and says what became of it."""
    with quiet():
        from components import decisions
        from pipeline import decided

    note = given_reason(note, "--note")
    place = Workdir(workdir)
    run, base = decided.run_named(place, run, destination)
    entry = getattr(decisions, answer)(base, run, who.name(by), note)
    decided.refresh(place, base, tell)
    click.echo(decided.lines(entry, base))
