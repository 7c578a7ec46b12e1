"""A log beside the versions of a folder: one JSON object an entry, appended durably, never changed.

    FOLDER/decisions.jsonl            on a volume: a line an entry
    FOLDER/.decisions/00000001.json   in an object store, which cannot append: an object an entry

Of a writer that was killed a line may be torn: readers pass it over, and the next writer begins a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from . import schemes, versions

FILE = "decisions.jsonl"
FOLDER = ".decisions"
LOCK = ".decisions.lock"
TURN = ".decisions/turn"
DEAD = 600  # seconds after which somebody who has a turn in an object store counts as dead


class BusyError(OSError):
    """Somebody else decides about the same folder, in one sentence."""


def read(folder: str) -> list[dict[str, Any]]:
    """The entries, the oldest first; what is torn is passed over. Raises storage.stores.ObjectStoreError, OSError."""
    if schemes.is_uri(folder):
        from . import object_store

        found = [one for one in object_store.listed(_store(folder)) if _number(one.name)]
        lines = [object_store.read(one.uri) for one in sorted(found, key=lambda one: _number(one.name))]
    else:
        try:
            with open(os.path.join(folder, FILE), "rb") as file:
                lines = file.read().split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return []
    return [entry for line in lines if (entry := _entry(line)) is not None]


def append(folder: str, entry: Mapping[str, Any]) -> None:
    """Adds an entry; when this returns, it is on the disk. Raises storage.stores.ObjectStoreError, OSError."""
    line = json.dumps(entry, ensure_ascii=False, sort_keys=True).encode()
    if schemes.is_uri(folder):
        from . import object_store

        place = _store(folder)
        number = 1 + max((_number(one.name) for one in object_store.listed(place)), default=0)
        while not object_store.create(f"{place}/{number:08d}.json", line):
            if object_store.read(f"{place}/{number:08d}.json") == line:  # the answer to the first try was lost
                return
            number += 1
        return
    path = os.path.join(folder, FILE)
    is_new = not os.path.exists(path)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        left = memoryview((b"\n" if torn else b"") + line + b"\n")
        try:
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # a full disk: nothing shall be left of the entry
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if is_new:
        _sync(folder)


@contextlib.contextmanager
def turn(folder: str) -> Iterator[None]:
    """Lets one at a time look at a folder of versions and decide about it.

    On a volume others wait, and the system ends the turn of one that was killed. In an object store others are
    refused, and one that was killed blocks them for ten minutes.

    Raises:
        BusyError: in an object store, somebody else has the turn.
        storage.stores.ObjectStoreError: refused, unreachable.
    """
    if not schemes.is_uri(folder):
        with versions.alone(folder, LOCK):
            yield
        return
    from . import object_store

    place = f"{folder.rstrip('/')}/{TURN}"
    # The last makes it one's own: the answer to a first try may be lost, and who asks again finds this.
    me = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%H:%M:%S')}"
    mine = f"{me}, {uuid.uuid4().hex[:8]}"
    if not object_store.create(place, mine.encode()) and (holder := _content(place)) != mine:
        about = object_store.head(place)
        if about is not None and time.time() - about.modified < DEAD:
            who = holder.rpartition(", ")[0] or "another process"
            raise BusyError(
                f"{folder} is being decided about by {who}: wait until it ends; if it was killed, others may go on "
                f"{DEAD // 60} minutes after it began."
            )
        if about is not None:
            object_store.remove(place)
        if not object_store.create(place, mine.encode()) and _content(place) != mine:
            raise BusyError(f"{folder} is being decided about by another process: wait until it ends.")
    try:
        yield
    finally:
        object_store.remove(place)


def _store(folder: str) -> str:
    return f"{folder.rstrip('/')}/{FOLDER}"


def _number(name: str) -> int:
    """Of an entry's object; 0 for others."""
    stem, dot, form = name.partition(".")
    return int(stem) if stem.isdecimal() and (dot, form) == (".", "json") else 0


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _content(uri: str) -> str:
    from tfx.dsl.io.filesystem import NotFoundError

    from . import object_store

    try:
        return object_store.read(uri).decode("utf-8", "replace")
    except NotFoundError:
        return ""


def _sync(folder: str) -> None:
    """Has the names in a folder on the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
