"""Progress events: from whichever process does the work to whoever shows it.

A worker appends one JSON object a line to the file that the environment variable `ALEXNET_EVENTS` names; without
that variable (under Kubeflow, in a notebook) nothing is written. Lines are short and appended in one call, so
several processes may write at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator

VARIABLE = "ALEXNET_EVENTS"


def emit(kind: str, **fields: object) -> None:
    """Appends an event; `fields` must be JSON values."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    line = (json.dumps({"time": round(time.time(), 3), "kind": kind, **fields}) + "\n").encode()
    with contextlib.suppress(OSError):  # on a full disk, say: the work itself may need no more of it
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class LastWord:
    """A pipe for the error that ended a worker: it arrives where the events cannot be written, on a full disk."""

    VARIABLE = "ALEXNET_LAST_WORD"  # in the worker's environment: the descriptor of its end
    MOST = 16_000  # letters: the pipe takes it all before anybody reads

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)

    @classmethod
    def say(cls, text: str, user: bool) -> None:
        """In the worker; `user`: whether the user can mend it."""
        emit("error", text=text, user=user)
        if descriptor := os.environ.get(cls.VARIABLE):
            with contextlib.suppress(OSError):
                os.write(int(descriptor), json.dumps({"text": text[: cls.MOST], "user": user}).encode())

    def read(self) -> dict | None:
        """When the worker has ended: {"text", "user"}, or None if it ended without a word."""
        os.close(self.writer)
        try:
            said = os.read(self._reader, 1 << 17)
        except BlockingIOError:  # somebody else still has the other end
            said = b""
        finally:
            os.close(self._reader)
        return json.loads(said) if said else None


class Reader:
    """Reads the events that were appended to `path` since the last call."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[dict]:
        """Yields each complete new line as a dict with `time`, `kind` and the event's own fields.

        What is no such line - a full disk cuts them - is passed over.
        """
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        complete, newline, _ = data.rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        for line in complete.split(b"\n"):
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and {"time", "kind"} <= event.keys():
                    yield event
