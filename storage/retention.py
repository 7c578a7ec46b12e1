"""Which versions of a history stay: the newest ones, and those that somebody has named in its file `.keep`."""

from __future__ import annotations

import os
import time

from absl import logging
from tfx.dsl.io import fileio

from . import schemes, versions

PINNED = ".keep"  # a text file in the history: one number a line, and # before a remark
DIGITS = 20  # more than any number of a version has
DEAD = 2 * 86_400  # seconds after which what a push was copying is left over


class RetentionError(OSError):
    """What the user can mend, in one sentence."""


def prune(folder: str, keep: int) -> list[int]:
    """Removes the versions that are neither among the newest nor named in `.keep`, each as a whole.

    The newest is never among them, which is the next run's baseline and what a server of the folder serves; nor is
    what a push under way has not completed. On a volume, what pushes were copying when they died goes after two days.

    Args:
        folder: the history.
        keep: how many of the newest stay; 0: all.

    Returns:
        The numbers of the removed versions.

    Raises:
        RetentionError: `.keep` cannot be understood; nothing was removed then.
        OSError, tensorflow.errors.OpError: the volume or the object store refuses.
    """
    if keep < 1:
        return []
    pinned = _pinned(folder)
    going = [number for number in versions.versions(folder)[:-keep] if number not in pinned]
    for number in going:
        versions.remove(folder, number)
    _clear(folder)
    return going


def tidy(folder: str, keep: int) -> None:
    """Does what `prune` does after something was added; if it fails, that is logged, since the addition stands."""
    try:
        removed = prune(folder, keep)
    except Exception as problem:  # of a volume, TensorFlow's errors are no OSErrors
        logging.warning("Old versions stay in %s: %s", folder, problem)
        return
    if removed:
        logging.info("Removed from %s: %s", folder, ", ".join(map(str, removed)))


def _pinned(folder: str) -> set[int]:
    if schemes.is_uri(folder):
        from . import filesystem  # noqa: F401  lets fileio read it
    path = os.path.join(folder.rstrip("/"), PINNED)
    if not fileio.exists(path):
        return set()
    if os.path.isdir(path):
        raise RetentionError(f"{path} is a folder: make it a file, with one number a line.")
    with fileio.open(path, "rb") as file:
        try:
            text = file.read().decode("utf-8-sig")  # editors of Windows begin with a mark
        except UnicodeDecodeError:
            raise RetentionError(f"{path} is no text in UTF-8: write one number a line.") from None
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if line and not (line.isdecimal() and len(line) < DIGITS):
            raise RetentionError(f"{path}, line {number}: {line[:40]!r} is no version; write one number a line.")
    return {int(line) for line in lines if line}


def _clear(folder: str) -> None:
    """Removes what pushes to a volume left when they died; in object stores, the next push does that."""
    if not os.path.isdir(folder):
        return
    for entry in os.scandir(folder):
        if entry.name.startswith(versions.INCOMING) and time.time() - entry.stat().st_mtime > DEAD:
            versions.delete(entry.path)
