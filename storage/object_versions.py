"""Versions in an object store (`s3://`) that appear complete or not at all: see `storage.versions`.

An object store cannot rename, so a version cannot appear at once, as on a volume. `publish` makes up for it with two
small objects that are written only if they are not there (If-None-Match):

    FOLDER/.claims/1767225600         says whose content this version gets, before anything else is written
    FOLDER/1767225600/...             the files
    FOLDER/1767225600.json            says that all of them are there; `versions` counts no version without it
"""

from __future__ import annotations

import concurrent.futures
import io
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
LAST = "saved_model.pb"  # servers take a folder with this file for a model, so it comes after all others


def versions(folder: str) -> list[int]:
    """The numbers of the complete versions in a history, ascending. Raises ObjectStoreError."""
    return _versions(folder)[0]


def _versions(folder: str) -> tuple[list[int], set[int]]:
    """The complete versions, and all that were complete once, also those whose files somebody has removed since."""
    folders, files = object_store.children(folder)
    names = (name.removesuffix(".json") for name in files if name.endswith(".json"))
    marked = {int(name) for name in names if name.isdecimal()}
    return sorted(int(name) for name in folders if name.isdecimal() and int(name) in marked), marked


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
        folder: of the history, s3://BUCKET/FOLDER.
        digest: identifies the content of `source`.
        extra: further files, by their names in the version.
        properties: for the version's JSON file.

    Returns:
        The version's number.

    Raises:
        ObjectStoreError: missing bucket, refused, unreachable.
    """
    folder = folder.rstrip("/")
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
        object_store.upload_file(io.BytesIO(body), f"{folder}/{number}/{name}")
    if LAST in files:
        object_store.upload(files[LAST], f"{folder}/{number}/{LAST}")
    object_store.create(f"{folder}/{number}.json", json.dumps(dict(properties or {})).encode())
    return number


def remove(folder: str, number: int) -> None:
    """Removes a version; it stops counting before anything of it is gone. Raises ObjectStoreError."""
    folder = folder.rstrip("/")
    object_store.remove(f"{folder}/{number}.json")
    object_store.remove_below(f"{folder}/{number}")
    object_store.remove(f"{folder}/.claims/{number}")


def _claim(folder: str, digest: str) -> int:
    """The number of the version that has, or shall get, the content `digest`, above all others."""
    while True:
        complete, marked = _versions(folder)
        newest = max(complete, default=0)
        claims = {int(one.name): one for one in object_store.listed(f"{folder}/.claims") if one.name.isdecimal()}
        for number, one in sorted(claims.items()):
            under_way = number > newest and number not in marked and time.time() - one.modified < DAY
            if (number == newest or under_way) and _content(one.uri) == digest.encode():
                return number
        # Seconds since 1970 as everywhere in TFX, but always above what is there.
        number = max([int(time.time()), *(other + 1 for other in marked | claims.keys())])
        if object_store.create(f"{folder}/.claims/{number}", digest.encode()):
            return number


def _content(uri: str) -> bytes:
    try:
        return object_store.read(uri)
    except NotFoundError:
        return b""


def _clear(folder: str) -> None:
    """Removes what pushes have left that died long ago. Within a day they may be under way, or be taken up again."""
    _, marked = _versions(folder)
    for one in list(object_store.listed(f"{folder}/.claims")):
        if one.name.isdecimal() and int(one.name) not in marked and time.time() - one.modified > 2 * DAY:
            remove(folder, int(one.name))
