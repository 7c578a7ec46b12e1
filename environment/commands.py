"""Running other programs, and the one error a user sees."""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

# Where set-up works out of the box, for hosts on which it cannot.
CONTAINER = "python:3.11-trixie"


class SetupError(Exception):
    """This host cannot be set up; the text is the sentence for the user."""


def without_secrets(text: str) -> str:
    """`text` with the user and password of every address in it masked."""
    return re.sub(r"://[^/\s@]+@", "://***@", text)


def run(command: Sequence[str | os.PathLike], doing: str, **options: Any) -> str:
    """Runs a command and returns its output.

    Raises:
        SetupError: it failed; the text ends with the last of what it said.
    """
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    except OSError as problem:
        raise SetupError(f"{doing} failed: {problem}") from problem
    if done.returncode:
        raise _failure(doing, (done.stderr.strip() or done.stdout.strip()).splitlines(), done.returncode)
    return done.stdout


def run_uv(command: Sequence[str | os.PathLike], doing: str, **options: Any) -> None:
    """Runs a long uv command; of the hundreds of lines it says, a few are shown.

    Those are its summaries and warnings, and now and then where it stands: on a terminal as a line that is
    overwritten, elsewhere a line in 15 seconds.

    Raises:
        SetupError: it failed; the text ends with the last of what it said.
    """
    terminal = sys.stdout.isatty()
    pause = 0.1 if terminal else 15
    shown = time.monotonic()
    tail: collections.deque[str] = collections.deque(maxlen=12)
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            for line in map(str.rstrip, process.stderr or ()):
                if not line or line.startswith((" + ", " - ", " ~ ")):
                    continue
                tail.append(line)
                lasting = line.startswith(("Prepared", "Installed", "warning"))
                if not lasting and time.monotonic() - shown < pause:
                    continue
                shown = time.monotonic()
                line = f"    {without_secrets(line.strip())}"
                if terminal and not lasting:  # to be overwritten, so it must not wrap
                    line = line[: shutil.get_terminal_size().columns - 1]
                start, end = ("\r\x1b[K", "\n" if lasting else "") if terminal else ("", "\n")
                print(start + line, end=end, flush=True)
        except BaseException:
            process.kill()
            raise
        finally:
            if terminal:
                print("\r\x1b[K", end="", flush=True)
    if process.returncode:
        raise _failure(doing, list(tail), process.returncode)


def _failure(doing: str, said: list[str], code: int) -> SetupError:
    """The error for a command that failed."""
    said = said[-12:] or [f"exit code {code}"]
    return SetupError(without_secrets(f"{doing} failed: " + "\n  ".join(said)))
