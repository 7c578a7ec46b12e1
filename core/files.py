"""Paths that users name, and writing files that readers may look at meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat

from core import errors
from core.errors import UserError


def replace(path: pathlib.Path, content: str | bytes) -> None:
    """Writes `content` so that `path` is complete, as it was before, or not there, whatever ends this process.

    A device, a pipe and the like are written into, and stay what they are.

    Raises:
        OSError: it cannot be written, and names `path`; nothing is left behind.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if special(path):
        with open(path, "wb", buffering=0, opener=lambda name, flags: os.open(name, os.O_WRONLY)) as file:
            left = memoryview(content.encode() if isinstance(content, str) else content)
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError as problem:
                raise OSError(problem.errno, problem.strerror, str(path)) from None
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or the name might be on the disk before the content
        os.replace(partial, path)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(problem, OSError):
            raise OSError(problem.errno, problem.strerror, str(path)) from None
        raise
    with contextlib.suppress(OSError):  # some file systems cannot do that for a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def special(path: str | os.PathLike[str]) -> bool:
    """Whether what is there is neither a file nor a folder: a device or a pipe, such as /dev/stdout may be."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def absolute(path: str | os.PathLike[str], option: str = "") -> pathlib.Path:
    """A path as the user wrote it, `~` included, made absolute; it need not exist.

    Args:
        path: what was written.
        option: what it was written for, such as "--workdir"; named in what is said.

    Raises:
        UserError: it can be no path of this machine.
    """
    text = os.fspath(path)
    named = f"{option} {errors.shortened(text)}".strip()
    if not text:
        raise UserError(f"{option or 'A path'} is empty: name a file or folder (is a variable not set?).")
    if "\0" in text:
        raise UserError(f"{named}: no path can hold a NUL character.")
    try:
        found = pathlib.Path(text).expanduser()
        found = found.absolute() if special(found) else found.resolve()  # a pipe behind a link has no path of its own
        found.exists()  # of what is there already some errors show only now
    except RuntimeError as problem:  # of pathlib: a user without a home, or links in a circle
        raise UserError(f"{named}: {str(problem).rstrip('.')}.") from None
    except FileNotFoundError:
        raise UserError(f"{named}: the current folder no longer exists; cd to another one.") from None
    except OSError as problem:
        if problem.errno == errno.ENAMETOOLONG:
            raise UserError(f"{named}: {errors.SYSTEM[problem.errno][0]}.") from None
        raise
    return found


def folder(path: str | os.PathLike[str], option: str, written: bool = False) -> pathlib.Path:
    """As `absolute`, for a folder, which need not exist.

    Args:
        path, option: as for `absolute`.
        written: whether it shall be written to.

    Raises:
        UserError: a file is there, or in the way; or nothing can be written there. Better now than after hours.
    """
    found = absolute(path, option)
    existing = next(place for place in (found, *found.parents) if os.path.lexists(place))
    if not existing.is_dir():
        raise UserError(f"{option} {found}: {existing} is a file; name a folder.")
    if written and not os.access(existing, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(existing).f_flag & os.ST_RDONLY else errno.EACCES
        raise UserError(f"{option} {found}: {errors.sentence(number, existing, 'written')}")
    return found
