"""What the commands have in common: options, how mistakes are told, how rows and files are written."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from core import errors, files, output
from core.errors import UserError
from core.exit_codes import INTERRUPTED, OK, UNREAD, USER_ERROR
from core.text import plain
from core.workdir import DEFAULT
from kubeflow.findings import Finding
from storage import schemes

EXIT_CODES = """
Exit codes: 0 the model was pushed (or the part asked for ran); 1 something broke, the log says what; 2 a mistake
in arguments, settings or data, or something else that you can mend, such as a full disk; 3 it ran to the end, but the
model did not pass its gates and was not pushed; 4 it passed them and waits for approval; 130 interrupted.
"""


class Commands(click.Group):
    """A group of commands, and the boundary of the program: what the user can mend is one sentence and exit code 2.

    Anything else is a bug: it ends with a traceback and exit code 1.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs a command; ends with SystemExit, as Click does, unless all went well and standalone_mode is off."""
        with output.restored():  # a test goes on
            output.prepare()
            code = self._code(*arguments, **options)
        if code or options.get("standalone_mode", True):
            sys.exit(code)

    def _code(self, *arguments: Any, **options: Any) -> int:
        """The exit code of a command."""
        try:
            try:
                code = super().main(*arguments, **options | {"standalone_mode": False})
            except SystemExit as end:
                code = end.code
            sys.stdout.flush()
        except click.ClickException as mistake:
            mistake.show()
            return mistake.exit_code
        except output.Unwritable as problem:
            return UNREAD if problem.closed else self._say(str(problem))
        except (KeyboardInterrupt, click.Abort):
            return INTERRUPTED
        except Exception as problem:
            if not (words := errors.words(problem)):
                raise
            return self._say(words)
        return code if isinstance(code, int) else OK

    @staticmethod
    def _say(sentence: str) -> int:
        click.echo(f"alexnet: {sentence}", err=True)
        return USER_ERROR

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:  # Click's own end of it prints more
            sys.exit(INTERRUPTED)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Refuses what is empty: a variable that is not set shall not mean "the latest" or "all"."""
        for before, argument in zip(["", *args], args, strict=False):
            if not argument or re.fullmatch(r"--[a-z-]+=", argument):
                name = argument.rstrip("=") or (before if before.startswith("-") else "An argument")
                raise UserError(f"{name} is empty: give it a value, or leave it out (is a variable not set?).")
        return super().parse_args(context, args)

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


def show(found: Finding) -> None:
    """Prints what a doctor found, and below it how to mend it."""
    click.echo(f"{found.state:<7}  {plain(found.subject)}: {plain(found.text)}")
    for line in found.mend.splitlines():
        click.echo(f"         -> {plain(line)}")


def who_option(command: Callable) -> Callable:
    """Adds --by."""
    text = "Who decides; ALEXNET_USER, or USER@HOST, if not given."
    return click.option("--by", metavar="WHO", help=text)(command)


def destination_option(command: Callable) -> Callable:
    """Adds --destination."""
    text = f"The folder that servers watch, also {schemes.WORDS}; that of the working directory's runs if not given."
    return click.option("--destination", metavar="FOLDER", help=text)(command)


def given_reason(text: str, option: str) -> str:
    """What somebody wrote on why; on one line. Raises UserError if it is nothing."""
    if not (words := " ".join(text.split())):
        raise UserError(f"{option} is empty: say why, for those who come after you.")
    return words


def tell(text: str) -> None:
    """Says on standard error what the user should know of the result."""
    click.echo(f"alexnet: {text}", err=True)


def write_csv(rows: list[dict]) -> None:
    """Writes rows of one form to standard output."""
    output.data()
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file that the user asked for. Raises UserError."""
    try:
        files.replace(files.absolute(path), content)
    except BrokenPipeError as problem:  # of /dev/stdout, say: nobody reads it any longer
        raise output.Unwritable(problem) from None
    except OSError as problem:
        raise UserError(errors.sentence(problem, path, "written")) from None
