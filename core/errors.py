"""What the user can mend: the exception for it, and the words for what the system refuses."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator


class UserError(Exception):
    """Bad input or settings. Its text is one sentence: what is wrong, where, and what to do about it.

    The command line prints it without a traceback and exits with `core.exit_codes.USER_ERROR`.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [str(self)]


# What a system refuses that its user can grant, whoever asked for it: what is wrong, and what to do.
SYSTEM = {
    errno.ENOSPC: ("no space is left on the device", "free some, or use another disk"),
    errno.EDQUOT: ("the quota of the disk is used up", "free some space, or use another disk"),
    errno.EFBIG: (
        "the file would be larger than is allowed here",
        "raise the limit (ulimit -f)",
    ),
    errno.EACCES: ("permission denied", "correct its owner and permissions, or name another place"),
    errno.EPERM: ("the operation is not permitted", "correct its owner and permissions, or name another place"),
    errno.EROFS: ("the file system is read-only", "name another place"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open on this machine", "end other programs"),
    errno.EIO: ("the device cannot be read or written (input/output error)", "check the disk"),
    errno.ENOMEM: ("not enough memory", "end other programs, or make do with less: a smaller training.batch_size"),
    errno.ENAMETOOLONG: ("the name is too long", "use a shorter one"),
    errno.ELOOP: ("symbolic links lead in a circle", "correct them"),
    errno.ESTALE: ("the network drive has lost it", "mount it anew"),
    errno.ENOTCONN: ("the network drive is not connected", "mount it anew"),
}
# Of a file that the user named these are mistakes, too; anywhere else they may be ours.
NAMED = {
    errno.ENOENT: ("there is no such file or folder", "correct the path"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "correct the path"),
    errno.EISDIR: ("it is a folder, not a file", "correct the path"),
    errno.EEXIST: ("a file of that name is in the way", "remove it, or name another place"),
}
# What libraries make of them: Python inside of Beam or Arrow, TensorFlow, and SQLite inside of ML Metadata.
PYTHON = re.compile(r"\[errno (\d+)\] [^:\[\n]*(?:: '([^'\n]+)')?", re.IGNORECASE)
STRERROR = {os.strerror(number): number for number in SYSTEM}
# A path, after what op it was or other words.
REFUSED = "|".join(map(re.escape, STRERROR))
TENSORFLOW = re.compile(
    rf"(?:(?:^|\}}\}} |: )\s*(?:[^;\n/]* (?=/))?((?:(?!\}}\}} |: )[^;\n])+); )?({REFUSED})",
    re.MULTILINE,
)
WRAPPED = re.compile(rf"\b{UserError.__module__}\.UserError: (.+?)(?: \[while running .*)?$", re.MULTILINE)
MEMORY = re.compile(r"OOM when allocating|std::bad_alloc|failed to allocate memory", re.IGNORECASE)
METADATA = "metadata.sqlite"
SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EACCES,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
}
DAMAGED = ("database disk image is malformed", "file is not a database")


def words(problem: BaseException, place: str = "") -> str | None:
    """What the user can mend about an exception, in a sentence; None if it is another, such as a bug.

    Args:
        problem: an exception; those that it came from, and those that a library told in its text, count as well.
        place: where it was worked, named where the exception does not say it.
    """
    if isinstance(problem, OSError) and problem.errno in NAMED and problem.filename is not None:
        return sentence(problem.errno, _at(place, problem.filename))
    for link in _chain(problem):
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OSError) and link.errno in SYSTEM:
            return sentence(link.errno, _at(place, link.filename))
        if isinstance(link, MemoryError):
            return sentence(errno.ENOMEM)
        if found := _told(str(link), place):
            return found
    return None


def reason(problem: BaseException, most: int = 1000) -> str:
    """What an exception says that nobody foresaw: its type and the sentence that names the cause.

    Of a stack of Java's or Python's that a library put into the text this is the innermost one's; where an exception
    has no text, what it came from has. The log has all of it.

    Args:
        problem: the exception.
        most: letters, after which it ends with a word.
    """
    for link in _chain(problem):
        if text := _innermost(str(link)):
            text = f"{type(link).__name__}: {text}"
            break
    else:
        text = f"{type(problem).__name__}, without a word about it"
    return text if len(text) <= most else text[:most].rpartition(" ")[0] + " ..."


def _innermost(text: str) -> str:
    """The line of a text that says most."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if any(line.endswith("Traceback (most recent call last):") for line in lines):
        said = [
            line for line in lines if re.match(r"[A-Za-z_][\w.]*(?:: |$)", line) and not line.startswith("Traceback")
        ]
        if said:
            return said[-1]
    causes = [line.strip().removeprefix("Caused by: ") for line in lines if line.strip().startswith("Caused by: ")]
    told = [cause for cause in causes if re.match(r"[\w.$]+: \S", cause)]
    return told[-1] if told else lines[0].strip() if lines else ""


def sentence(problem: OSError | int, file: object = "", done: str = "used") -> str:
    """What to say of an error of the system.

    Args:
        problem: the error, or its number in `SYSTEM` or `NAMED`.
        file: what it is about, if that is known.
        done: what cannot be done with it.
    """
    number = problem if isinstance(problem, int) else problem.errno or 0
    strange = "" if isinstance(problem, int) else problem.strerror or str(problem)
    what, remedy = (SYSTEM | NAMED).get(number, (strange[:1].lower() + strange[1:], "name another place"))
    name = os.fsdecode(file) if isinstance(file, bytes | str | os.PathLike) else ""
    if not name:
        return f"{what[0].upper()}{what[1:]}: {remedy}."
    return f"{shortened(name)} cannot be {done}: {what}; {remedy}."


def shortened(text: str, most: int = 300) -> str:
    """A path as it is shown: on one line, and the middle of a very long one left out."""
    text = text.replace("\n", "\\n").replace("\0", "\\0")
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def _at(place: str, file: object) -> str:
    """A file, which may be told relative to the place where it was worked; the place itself if it is not told."""
    return os.path.join(place, os.fsdecode(file)) if isinstance(file, str | bytes | os.PathLike) else place


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it came from."""
    waiting, seen = [problem], set()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += getattr(link, "exceptions", ())  # of a group
        waiting += [cause for cause in (link.__cause__, link.__context__) if cause is not None]


def _told(text: str, place: str) -> str | None:
    """As `words`, from the text of an exception in which a library hides another."""
    if wrapped := WRAPPED.search(text):
        return wrapped[1]
    for told, number in SQLITE.items():
        if told in text:
            return sentence(number, os.path.join(place, METADATA))
    if any(told in text for told in DAMAGED):
        file = os.path.join(place, METADATA)
        return f"{file} is damaged: restore it from a copy, or move it away; without it nothing is reused."
    for match in PYTHON.finditer(text):
        if int(match[1]) in SYSTEM:
            return sentence(int(match[1]), _at(place, match[2]))
    if system := TENSORFLOW.search(text):
        return sentence(STRERROR[system[2]], _at(place, system[1]))
    return sentence(errno.ENOMEM) if MEMORY.search(text) else None
