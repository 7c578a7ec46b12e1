"""Writing files that readers may look at meanwhile, and looking whether files are still there."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Mapping


def replace(path: pathlib.Path, content: str | bytes) -> None:
    """Writes `content` so that `path` is complete, as it was before, or not there, whatever ends this process.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or the name might be on the disk before the content
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    with contextlib.suppress(OSError):  # some file systems cannot do that for a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def contents(path: pathlib.Path) -> dict[str, int]:
    """The files below a folder, by their relative paths, and their sizes in bytes; of a file, itself as ""."""
    if path.is_file():
        return {"": path.stat().st_size}
    found = {}
    for folder, _, names in os.walk(path, followlinks=True):
        for name in names:
            file = pathlib.Path(folder, name)
            with contextlib.suppress(FileNotFoundError):  # a dangling link
                found[file.relative_to(path).as_posix()] = file.stat().st_size
    return dict(sorted(found.items()))


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
