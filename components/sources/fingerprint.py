"""Fingerprints of data, so that the cache never answers for data that have changed."""

from __future__ import annotations

import hashlib
import pathlib

from components.sources import manifests
from core import corrections, settings
from core.walk import walk


def data(wanted: settings.Data) -> str:
    """Of the data that `wanted.source` names: of its files' names, sizes and times, without reading them.

    Of objects: of their names, sizes and ETags. A list of corrections counts by its content. Raises UserError if
    something cannot be listed or read.
    """
    found = _source(wanted)
    if wanted.corrections:
        found += f"+{corrections.fingerprint(corrections.read(wanted.corrections))}"
    return found


def _source(wanted: settings.Data) -> str:
    if wanted.version != "auto":
        return wanted.version
    if settings.is_remote(wanted.source):
        return _objects(wanted)
    if settings.looks_like_path(wanted.source):
        return _files(pathlib.Path(wanted.source).expanduser())
    if not wanted.data_dir:  # not yet prepared, and prepared by the last run, must count as the same
        return "builder"
    return _files(pathlib.Path(wanted.data_dir).expanduser() / settings.builder_name(wanted.source))


def _files(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    if path.is_file():
        status = path.stat()
        digest.update(_line(path.name, status.st_size, status.st_mtime_ns))
        for picture in manifests.listed(path) if manifests.is_manifest(path) else ():
            digest.update(_line(picture, *_state(picture)))
    elif path.is_dir():
        for entry in walk(path):
            digest.update(_line(entry.path, entry.size, entry.modified, entry.problem))
    return digest.hexdigest()[:16]


def _state(picture: pathlib.Path) -> tuple[int, int]:
    """Size and time of what a manifest names, whatever it is."""
    try:
        status = picture.stat()
    except (OSError, ValueError):
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _objects(wanted: settings.Data) -> str:
    from components.sources import remote  # loads obstore

    digest = hashlib.sha256()
    found = remote.find(wanted.source, wanted.newest_spans)
    if manifests.is_manifest(pathlib.PurePath(wanted.source)):
        found += remote.beside(wanted.source)
    for one in found:
        digest.update(_line(one.name, one.size, one.etag))
    return digest.hexdigest()[:16]


def _line(*facts: object) -> bytes:
    return "\0".join(map(str, facts)).encode("utf-8", "surrogateescape") + b"\n"
