"""Data in an object store: copied into a scratch folder, then read from there."""

from __future__ import annotations

import pathlib
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import Container

from components.sources.folders import SPAN
from core.errors import UserError
from core.events import emit
from storage import object_store


def find(uri: str, newest_spans: int = 0) -> list[object_store.Object]:
    """The objects of an archive or a folder; of a folder with `span-N/` folders those of the newest ones (0: all).

    Raises:
        UserError: there is nothing, or no way to it.
    """
    found = _find(uri)
    if not found:
        raise UserError(f"The data source {uri} does not exist: no object and no folder has that name.")
    spans = {name: int(span[1]) for one in found if (span := SPAN.match(name := one.name.split("/")[0]))}
    if newest_spans and spans:
        wanted = set(sorted(spans, key=spans.__getitem__)[-newest_spans:])
        found = [one for one in found if one.name.split("/")[0] in wanted]
    return found


def fetch(uri: str, newest_spans: int, scratch: pathlib.Path) -> pathlib.Path:
    """Copies what `find` finds below `scratch`, and tells of its progress; returns the archive or the folder.

    Raises:
        UserError: there is nothing, no way to it, or no room for it.
    """
    found = find(uri, newest_spans)
    single = len(found) == 1 and found[0].uri == uri
    name = re.sub(r"^\.+", "", uri.rstrip("/").rsplit("/", 1)[1]) or "data"
    target = scratch / "download" if single else scratch / "download" / name
    _copy(uri, found, target, scratch)
    return target / name if single else target


def beside(uri: str) -> list[object_store.Object]:
    """All objects in the folder of a manifest. Raises UserError."""
    return _find(uri.rpartition("/")[0])


def fetch_named(uri: str, names: Container[str], folder: pathlib.Path) -> None:
    """Copies the pictures that a manifest in an object store names; what is not there is left to who reads them.

    Args:
        uri: of the manifest.
        names: their keys below the manifest's folder, composed (NFC).
        folder: where the manifest was copied to.

    Raises:
        UserError: no way to them, or no room for them.
    """
    _copy(uri, [one for one in beside(uri) if unicodedata.normalize("NFC", one.name) in names], folder, folder.parent)


def _find(uri: str) -> list[object_store.Object]:
    try:
        return object_store.find(uri)
    except OSError as problem:
        raise UserError(str(problem)) from None


def _copy(uri: str, found: list[object_store.Object], target: pathlib.Path, scratch: pathlib.Path) -> None:
    """Copies objects into a folder in `scratch`, and tells of the progress. Raises UserError."""
    total = sum(one.size for one in found)
    if total > (free := shutil.disk_usage(scratch).free):
        raise UserError(
            f"{uri} has {total / 1e9:,.1f} GB, but the scratch folder {scratch} has room for {free / 1e9:,.1f} GB: "
            "free some, or set TMPDIR to a larger one."
        )
    tell = _Progress(uri, total)
    try:
        object_store.download(found, target, tell)
    except OSError as problem:
        raise UserError(str(problem)) from None


class _Progress:
    """Tells at most twice a second how much has come."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._told = 0.0
        self._lock = threading.Lock()

    def __call__(self, size: int) -> None:
        with self._lock:
            self._done += size
            if (now := time.monotonic()) - self._told > 0.5:
                self._told = now
                emit("download", name=self._name, megabytes=self._done >> 20, of=self._total >> 20)
