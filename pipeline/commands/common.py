"""What the commands have in common: options, how mistakes are told, how rows and files are written."""

from __future__ import annotations

import csv
import os
import pathlib
import sys
from collections.abc import Callable

import click

from core import files
from core.errors import UserError
from core.exit_codes import INTERRUPTED, USER_ERROR
from core.workdir import DEFAULT

EXIT_CODES = """
Exit codes: 0 the model was pushed (or the part asked for ran); 1 something broke, the log says what; 2 a mistake
in arguments, settings or data; 3 it ran to the end, but the model did not pass its gates and was not pushed;
130 interrupted.
"""


class Commands(click.Group):
    """A group in which a user's mistake is one sentence and exit code 2."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except UserError as mistake:
            click.echo(f"alexnet: {mistake}", err=True)
            sys.exit(USER_ERROR)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands with the whole first sentence of each: click's own cuts it off at the line's end."""
        names = self.list_commands(context)
        found = [(name, command) for name in names if (command := self.get_command(context, name))]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(limit=1000)) for name, command in found])


def workdir_option(command: Callable) -> Callable:
    """Adds --workdir."""
    text = "Where runs, artifacts and pushed models are kept."
    return click.option("--workdir", default=DEFAULT, show_default=True, metavar="DIR", help=text)(command)


def format_option(command: Callable) -> Callable:
    """Adds --format, and --json for short."""
    forms = click.Choice(["table", "json", "csv"])
    short = click.option("--json", "form", flag_value="json", help="Short for --format json.")
    return click.option("--format", "form", type=forms, default="table", show_default=True)(short(command))


def settings_options(command: Callable) -> Callable:
    """Adds --preset and --set."""
    changes = click.option(
        "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. training.epochs=3."
    )
    preset = click.option(
        "--preset", default="shapes10", show_default=True, metavar="NAME", help="A preset, or a YAML file like one."
    )
    return preset(changes(command))


def write_csv(rows: list[dict]) -> None:
    """Writes rows of one form to standard output."""
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file that the user asked for. Raises UserError."""
    try:
        files.replace(pathlib.Path(path), content)
    except OSError as problem:
        raise UserError(f"{path} cannot be written: {problem.strerror}.") from None
