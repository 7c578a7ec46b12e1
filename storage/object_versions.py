"""Versions in an object store that appear complete or not at all: see `storage.versions`.

An object store cannot rename, so a version cannot appear at once, as on a volume. `publish` makes up for it with two
small objects that are written only if they are not there (If-None-Match, x-goog-if-generation-match):

    FOLDER/.claims/1767225600         says whose content this version gets, before anything else is written
    FOLDER/.claims/1767000000-DIGEST  says which number that content gets after the version 1767000000
    FOLDER/1767225600/...             the files
    FOLDER/1767225600.json            says that all of them are there; `versions` counts no version without it

A store that ignores the condition would let two claims win, so that is tried first, once in a folder:

    FOLDER/.claims/tried              says that it was
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import time
from collections.abc import Mapping

from tfx.dsl.io.filesystem import NotFoundError

from . import (
    filesystem,  # noqa: F401  lets fileio read what is found here
    object_store,
)

DAY = 86_400  # seconds after which a push that has not ended counts as dead
TRIED = ".claims/tried"
REMOVED = b"removed"  # in the claim of a version that goes
LAST = "saved_model.pb"  # servers take a folder with this file for a model, so it comes after all others


def versions(folder: str) -> list[int]:
    """The numbers of the complete versions in a history, ascending. Raises ObjectStoreError."""
    return _versions(folder.rstrip("/"))[0]


def _versions(folder: str) -> tuple[list[int], set[int]]:
    """The complete versions, and all that were complete once, also those whose files somebody has removed since."""
    folders, files = object_store.children(folder)
    names = (name.removesuffix(".json") for name in files if name.endswith(".json"))
    marked = {int(name) for name in names if name.isdecimal()}
    complete = sorted(int(name) for name in folders if name.isdecimal() and int(name) in marked)
    with concurrent.futures.ThreadPoolExecutor(object_store.THREADS) as pool:
        # SeaweedFS goes on to list folders for a while whose files somebody has removed.
        there = list(pool.map(lambda number: object_store.is_folder(f"{folder}/{number}"), complete))
    return [number for number, still in zip(complete, there, strict=True) if still], marked


def publish(
    source: str,
    folder: str,
    digest: str,
    extra: Mapping[str, bytes] | None = None,
    properties: Mapping[str, object] | None = None,
) -> int:
    """Makes the files of `source` the newest version in a history, unless they are that already.

    Any number of callers may do so at once: of each content there is one version. A caller that dies leaves what
    readers do not count; one that brings the same content within a day completes it, a later one removes it.

    Args:
        source: a local folder.
        folder: of the history, such as s3://BUCKET/FOLDER.
        digest: identifies the content of `source`.
        extra: further files, by their names in the version.
        properties: for the version's JSON file.

    Returns:
        The version's number.

    Raises:
        ObjectStoreError: missing bucket, refused, unreachable, or a store without conditional writes.
    """
    folder = folder.rstrip("/")
    if object_store.head(f"{folder}/{TRIED}") is None and not object_store.excludes(f"{folder}/.claims"):
        raise object_store.ObjectStoreError(
            f"The object store of {folder} does not know conditional writes, or not of writers at once (SeaweedFS "
            "does from 4.18 on), so two pushes could make one version of two: update it, or push to a volume."
        )
    object_store.create(f"{folder}/{TRIED}", b"")
    _clear(folder)
    number = _claim(folder, digest)
    if number in versions(folder):
        return number
    files = {}
    for inner, _, names in os.walk(source):
        for name in names:
            path = os.path.join(inner, name)
            files[os.path.relpath(path, source)] = path
    others = sorted(files.keys() - {LAST})
    with concurrent.futures.ThreadPoolExecutor(object_store.THREADS) as pool:
        list(pool.map(lambda name: object_store.upload(files[name], f"{folder}/{number}/{name}"), others))
    for name, body in (extra or {}).items():
        object_store.write(body, f"{folder}/{number}/{name}")
    if LAST in files:
        object_store.upload(files[LAST], f"{folder}/{number}/{LAST}")
    object_store.create(f"{folder}/{number}.json", json.dumps(dict(properties or {})).encode())
    if _content(f"{folder}/.claims/{number}") != digest.encode():
        # Somebody else completed it, and it was removed as an old one while files of it were still on their way.
        remove(folder, number)
        return publish(source, folder, digest, extra, properties)
    return number


def remove(folder: str, number: int) -> None:
    """Removes a version; it stops counting before anything of it is gone. Raises ObjectStoreError."""
    folder = folder.rstrip("/")
    object_store.write(REMOVED, f"{folder}/.claims/{number}")  # before the marker: see `publish`
    object_store.remove(f"{folder}/{number}.json")
    object_store.remove_below(f"{folder}/{number}")
    object_store.remove(f"{folder}/.claims/{number}")


def _claim(folder: str, digest: str) -> int:
    """The number of the version that has, or shall get, the content `digest`, above all others.

    A number is claimed first. Callers at once may have claimed several for one content, as seconds go by: that counts
    which stands in the one object that is called after this content and the newest version.
    """
    while True:
        complete, marked = _versions(folder)
        newest = max(complete, default=0)
        claims = {int(one.name): one for one in object_store.listed(f"{folder}/.claims") if one.name.isdecimal()}
        if newest in claims and _content(claims[newest].uri) == digest.encode():
            return newest
        turn = f"{folder}/.claims/{newest}-{hashlib.sha256(digest.encode()).hexdigest()[:32]}"
        if taken := _content(turn):
            if int(taken) not in marked and _under_way(folder, int(taken), digest):
                return int(taken)
            object_store.remove(turn)  # of one that died, or whose version was removed
        later = sorted(number for number in claims if number > newest and number not in marked)
        found = [number for number in later if _under_way(folder, number, digest)]
        # Seconds since 1970 as everywhere in TFX, but always above what is there.
        number = found[0] if found else max([int(time.time()), *(other + 1 for other in marked | claims.keys())])
        if not found and not object_store.create(f"{folder}/.claims/{number}", digest.encode()):
            continue
        if object_store.create(turn, str(number).encode()) or _content(turn) == str(number).encode():
            return number
        if not found:
            object_store.remove(f"{folder}/.claims/{number}")


def _under_way(folder: str, number: int, digest: str) -> bool:
    """Whether somebody has claimed a number for this content within a day."""
    claim = f"{folder}/.claims/{number}"
    about = object_store.head(claim)
    return about is not None and time.time() - about.modified < DAY and _content(claim) == digest.encode()


def _content(uri: str) -> bytes:
    try:
        return object_store.read(uri)
    except NotFoundError:
        return b""


def _clear(folder: str) -> None:
    """Removes what pushes have left that died long ago. Within a day they may be under way, or be taken up again."""
    _, marked = _versions(folder)
    for one in list(object_store.listed(f"{folder}/.claims")):
        if time.time() - one.modified < 2 * DAY:
            continue
        if not one.name.isdecimal() and one.name != TRIED.rpartition("/")[2]:
            object_store.remove(one.uri)  # whose turn it was, or of `excludes`
        elif one.name.isdecimal() and int(one.name) not in marked:
            remove(folder, int(one.name))
