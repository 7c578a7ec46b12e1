"""Folders of numbered versions (`FOLDER/1767225600/`) on a volume or in an object store (`s3://`, `gs://`, `az://`).

Each version is complete or not there for `versions`: the layout of TensorFlow Serving. What only object stores need
is imported when the first URI of one is met, so a project that has none can leave all modules but `schemes` out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

from tfx.dsl.io import fileio
from tfx.utils import io_utils

from . import schemes

INCOMING = ".incoming-"  # what the name of a version begins with while it is copied
GOING = ".going-"  # and while it is removed


def versions(folder: str) -> list[int]:
    """The numbers of the versions in a history, ascending. Raises storage.object_store.ObjectStoreError."""
    if store := _object_store(folder):
        return store.versions(folder)
    if not fileio.isdir(folder):
        return []
    names = [str(name).strip("/") for name in fileio.listdir(folder)]
    numbers = [name for name in names if name.isdecimal() and name == str(int(name))]  # 007 is not found as 7
    return sorted(int(name) for name in numbers if fileio.isdir(os.path.join(folder, name)))


def record(source: str, folder: str, properties: Mapping[str, str | float] | None = None) -> None:
    """Copies the folder `source` into a history as its newest version, unless the newest has the same files.

    Args:
        source: what to keep.
        folder: the history; made when needed.
        properties: of the artifact's type, such as split_names; they lie beside the version.
    """
    publish(source, folder, fingerprint(source), properties=properties)


def remove(folder: str, number: int) -> None:
    """Removes a version, which stops counting before anything of it is gone; if it is not there, nothing happens.

    On a volume it is renamed first. Somebody who reads it meanwhile finds files missing. One that dies leaves what no
    reader counts, and the next `remove` in that folder clears away.

    Args:
        folder: the history.
        number: of the version.

    Raises:
        storage.object_store.ObjectStoreError: refused, unreachable.
    """
    if store := _object_store(folder):
        store.remove(folder, number)
        return
    if not fileio.isdir(folder):
        return
    version, beside = os.path.join(folder, str(number)), os.path.join(folder, f"{number}.json")
    with alone(folder):
        if fileio.exists(version):
            fileio.rename(version, os.path.join(folder, f"{GOING}{uuid.uuid4().hex}"))
        if fileio.exists(beside):
            fileio.remove(beside)
        for name in map(str, fileio.listdir(folder)):
            if name.startswith(GOING):
                delete(os.path.join(folder, name.strip("/")))


def delete(path: str) -> None:
    """Removes a folder on a volume; of links, there and below, these alone: TensorFlow would empty their targets."""
    if os.path.islink(path) or os.path.isfile(path):
        os.remove(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    else:
        fileio.rmtree(path)


def publish(
    source: str,
    folder: str,
    digest: str,
    extra: Mapping[str, bytes] | None = None,
    properties: Mapping[str, object] | None = None,
    known: Callable[[str], str] | None = None,
) -> int:
    """Makes the files of `source` the newest version in a history, unless the newest has them already.

    Readers never see half of it: on a volume the copy is made under another name and then renamed, for object stores
    see `storage.object_versions`. Of several at once that bring the same, one makes a version.

    Args:
        source: a local folder.
        folder: the history; made when needed.
        digest: identifies the content of `source`.
        extra: further files, by their names in the version.
        properties: for a JSON file beside the version.
        known: gives the digest of a version's folder; the default is `fingerprint`.

    Returns:
        The version's number.
    """
    if store := _object_store(folder):
        return store.publish(source, folder, digest, extra, properties)
    fileio.makedirs(folder)
    incoming = os.path.join(folder, f"{INCOMING}{uuid.uuid4().hex}")
    with alone(folder):
        existing = versions(folder)
        if existing and (known or fingerprint)(os.path.join(folder, str(existing[-1]))) == digest:
            return existing[-1]
        # Seconds since 1970 as everywhere in TFX, but always above what is there.
        version = max([int(time.time()), *(number + 1 for number in existing)])
        try:
            io_utils.copy_dir(source, incoming)
            for name, body in (extra or {}).items():
                fileio.makedirs(os.path.dirname(os.path.join(incoming, name)))
                with fileio.open(os.path.join(incoming, name), "wb") as file:
                    file.write(body)
            if properties:
                with fileio.open(os.path.join(folder, f"{version}.json"), "w") as file:
                    file.write(json.dumps(dict(properties)))
            fileio.rename(incoming, os.path.join(folder, str(version)))
        finally:
            if fileio.exists(incoming):
                fileio.rmtree(incoming)
    return version


def _object_store(folder: str) -> ModuleType | None:
    """What does the same in an object store, if the folder is in one."""
    if not schemes.is_uri(folder):
        return None
    from . import object_versions

    return object_versions


@contextlib.contextmanager
def alone(folder: str, name: str = ".lock") -> Iterator[None]:
    """Lets one caller at a time write into a history on a volume; the system ends the turn of one that was killed.

    Args:
        folder: the history.
        name: of the file in it that is locked. Who holds several takes ".lock" last.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # some file systems cannot lock
            file = stack.enter_context(open(os.path.join(folder, name), "a"))  # NFS locks what is open for writing
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fingerprint(folder: str, of: Callable[[str], bool] = lambda name: True) -> str:
    """A digest of the files below a folder, and of their names; `of` says by its path below it which count."""
    digest = hashlib.sha256()
    for inner, _, names in sorted(fileio.walk(folder)):
        for name in sorted(names):
            path = os.path.join(str(inner), str(name))
            if not of(below := os.path.relpath(path, folder)):
                continue
            digest.update(f"{below}\0".encode())
            with fileio.open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
