"""Everything below a folder: one walk for those who read files and for those who look whether they have changed."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import stat
import unicodedata
import zlib
from collections.abc import Iterator, Mapping

from core.errors import UserError

Identity = tuple[int, int]  # of a folder: its device and inode
PART = 1 << 20  # bytes of a file read at once


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is no folder, or a link to a folder that is not entered.

    Attributes:
        path: below the folder where the walk began, as the system has it: a name that is no UTF-8 has surrogates.
        size, modified: of the file, links followed; in bytes, and in nanoseconds since 1970.
        problem: why it is no file that can be read; "" if it is one.
    """

    path: str
    size: int = 0
    modified: int = 0
    problem: str = ""


def walk(root: str | os.PathLike, inside: str = "") -> Iterator[Entry]:
    """What is below `root`, or below its subfolder `inside`; hidden files, too, each folder's in the order of names.

    Links are followed, but no folder is entered from within itself.

    Raises:
        UserError: a folder cannot be read.
    """
    places = [os.fspath(root)]
    for part in inside.split(os.sep) if inside else ():
        places.append(os.path.join(places[-1], part))
    waiting = [(places[-1], inside, {_identity(place) for place in places})]
    while waiting:
        place, name, around = waiting.pop()
        folders = []
        for entry in _entries(place):
            path = os.path.join(name, entry.name)
            try:
                status = entry.stat()
            except OSError:
                yield Entry(path, problem=_unreachable(entry.path))
                continue
            if not stat.S_ISDIR(status.st_mode):
                problem = "" if stat.S_ISREG(status.st_mode) else "no regular file"
                yield Entry(path, status.st_size, status.st_mtime_ns, problem)
            elif (status.st_dev, status.st_ino) in around:
                yield Entry(path, problem="a link to a folder that it is in")
            else:
                folders.append((entry.path, path, around | {(status.st_dev, status.st_ino)}))
        waiting += reversed(folders)


def subfolders(root: str | os.PathLike, inside: str = "") -> list[str]:
    """The names of the folders in `root`/`inside` that are not hidden, sorted; links to folders above left out.

    Raises:
        UserError: it cannot be read. What is no folder has none.
    """
    place = os.path.join(root, inside)
    if not os.path.isdir(place):
        return []
    around, above = set(), inside
    while above:
        around.add(_identity(os.path.join(root, above)))
        above = os.path.dirname(above)
    around.add(_identity(os.fspath(root)))
    return [
        entry.name
        for entry in _entries(place)
        if not entry.name.startswith(".") and os.path.isdir(entry.path) and _identity(entry.path) not in around
    ]


def contents(path: pathlib.Path) -> dict[str, int]:
    """The files below a folder, by their relative paths, and their sizes in bytes; of a file, itself as ""."""
    if path.is_file():
        return {"": path.stat().st_size}
    return {entry.path: entry.size for entry in walk(path) if not entry.problem} if path.is_dir() else {}


def missing(path: pathlib.Path, recorded: Mapping[str, int] | None) -> str | None:
    """What is wrong with the files at `path`, in words; None if they are all there.

    Args:
        path: of a folder, or a file.
        recorded: what `contents` said of it; further files do not count. None: any file will do.
    """
    if not path.exists():
        return f"{path} is gone"
    there = contents(path)
    if recorded is None:
        return None if there else f"{path} is empty"
    for name, size in recorded.items():
        if name not in there:
            return f"{path / name} is gone"
        if there[name] != size:
            return f"{path / name} has another size"
    return None


def checksums(path: pathlib.Path) -> dict[str, int]:
    """The CRC-32 of each file that `contents` finds; enough for what decays, not against who means harm."""
    return {name: _checksum(path / name) for name in contents(path)}


def altered(path: pathlib.Path, recorded: Mapping[str, int]) -> str | None:
    """Which file at `path` has not the content any more of which `checksums` told, in words; None if all have it."""
    for name, checksum in recorded.items():
        try:
            if _checksum(path / name) != checksum:
                return f"{path / name} has other content"
        except OSError as problem:
            return f"{path / name} cannot be read: {(problem.strerror or type(problem).__name__).lower()}"
    return None


def printable(path: str) -> str:
    """A path as text that can be stored and shown: composed (NFC), with escapes for control characters and no UTF-8.

    Of "Käse" macOS makes two letters of one, so that two folders may look alike.
    """
    text = unicodedata.normalize("NFC", os.fsencode(path).decode("utf-8", "backslashreplace"))
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter
        for letter in text
    )


def _entries(place: str) -> list[os.DirEntry]:
    try:
        with os.scandir(place) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as problem:
        why = (problem.strerror or type(problem).__name__).lower()
        raise UserError(f"The folder {printable(place)} cannot be read: {why}.") from None


def _checksum(file: pathlib.Path) -> int:
    checksum = 0
    with file.open("rb", buffering=0) as opened:
        while part := opened.read(PART):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _identity(place: str) -> Identity:
    status = os.stat(place)
    return status.st_dev, status.st_ino


def _unreachable(path: str) -> str:
    try:
        target = os.readlink(path)
    except OSError:
        return "cannot be read"
    return f"a link to {printable(target)}, which is not there"
