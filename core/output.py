"""Standard output and error that can be relied on: closed, full, cut off, or of a terminal that knows no UTF-8.

`prepare` is for programs; whatever they call prints as usual.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import sys
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from core import errors

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PLAINER = "alexnet.plainer"  # the error handler of the streams
# As wide as what they stand for, so that tables stay aligned. What is not here loses its accents, or is a "?".
SIGNS = {
    letter: sign
    for letters, sign in {
        "✓": "+",
        "✗×": "x",
        "–—−─━": "-",
        "…·•": ".",
        "→▶": ">",
        "↑▲": "^",
        "↓▼": "v",
        "↺": "@",
        "│┃▏▎▍▌": "|",
        "┼╋├┤┬┴┌┐└┘╭╮╯╰": "+",
        "█▉▊▋": "#",
        "▓▇▆": "=",
        "░▁▂": "-",
        "▃▄▅": "~",
        "“”„": '"',
        "‘’": "'",
        "\u00a0": " ",
    }.items()
    for letter in letters
}


class Unwritable(Exception):
    """Standard output takes no more. `closed`: because nobody reads it any longer."""

    def __init__(self, problem: OSError) -> None:
        self.closed = problem.errno == errno.EPIPE
        what = errors.SYSTEM.get(problem.errno or 0, ((problem.strerror or "it takes no more").lower(),))[0]
        super().__init__(f"Standard output cannot be written: {what}.")


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor; when that fails, the rest goes nowhere, so that nothing fails again at the end."""

    def __init__(self, descriptor: int, forgiving: bool) -> None:
        self._descriptor = descriptor
        self.forgiving = forgiving

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another program has set the pipe that both write to so
                select.select([], [self._descriptor], [])
            except OSError as problem:
                _to_nowhere(self._descriptor)
                if self.forgiving:
                    return memoryview(data).nbytes
                raise Unwritable(problem) from None


class _Stream(io.TextIOWrapper):
    """Text to a descriptor in the encoding that the user's terminal has."""

    def __init__(self, descriptor: int, like: TextIO | None, forgiving: bool) -> None:
        encoding = getattr(like, "encoding", None) or "utf-8"
        self.raw = _Descriptor(descriptor, forgiving)
        # What is ASCII is UTF-8 as well; Click takes a stream that says ASCII for a mistake, and goes round it.
        self._ascii = codecs.lookup(encoding).name == "ascii"
        super().__init__(
            io.BufferedWriter(self.raw),
            encoding="utf-8" if self._ascii else encoding,
            errors=PLAINER,
            line_buffering=descriptor == 2 or self.raw.isatty(),
        )

    def write(self, text: str) -> int:
        if self._ascii:
            super().write(text.encode("ascii", PLAINER).decode("utf-8", "surrogateescape"))
            return len(text)
        return super().write(text)

    def take_data(self) -> None:
        self._ascii = False
        self.reconfigure(encoding="utf-8")


def prepare(forgiving: bool = False) -> None:
    """Makes standard output and error of this process such streams. Those that somebody has put there instead stay.

    Args:
        forgiving: losing standard output is no reason to stop. Losing standard error never is: nobody could be told.
    """
    for descriptor in range(3):  # one that is closed would go to the next file that is opened, the log or the lock
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, _Stream):
            stream.raw.forgiving |= forgiving
        if stream is not getattr(sys, f"__{name}__"):
            continue
        with contextlib.suppress(Exception):
            stream.flush()
        setattr(sys, name, _Stream(descriptor, stream, forgiving or descriptor == 2))


def data() -> None:
    """What follows on standard output is for programs: always UTF-8, and nothing in it is made plainer."""
    if isinstance(sys.stdout, _Stream):
        sys.stdout.take_data()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Puts the streams back that were there before."""
    before = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _plainer(problem: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for letters that an encoding lacks; bytes of a path that are no text stay as they are."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    made = b""
    for letter in problem.object[problem.start : problem.end]:
        if 0xDC80 <= ord(letter) <= 0xDCFF:
            made += bytes([ord(letter) - 0xDC00])
            continue
        simple = SIGNS.get(letter)
        if simple is None and 0x2800 <= ord(letter) <= 0x28FF:  # the dots of a spinner
            simple = "."
        if simple is None:
            base = unicodedata.normalize("NFKD", letter)[0]
            wide = unicodedata.east_asian_width(letter) in "WF"
            simple = "" if unicodedata.combining(letter) else base if base.isascii() else "??" if wide else "?"
        made += simple.encode("ascii")
    return made, problem.end


codecs.register_error(PLAINER, _plainer)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TensorFlow's native code greets on standard error before it can be told not to."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    saved = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
