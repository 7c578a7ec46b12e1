"""Fingerprints of data, so that the cache never answers for data that have changed."""

from __future__ import annotations

import hashlib
import os
import pathlib

from core import settings


def data(wanted: settings.Data) -> str:
    """Of the data that `wanted.source` names: of its files' names, sizes and times, without reading them.

    Of objects: of their names, sizes and ETags. Raises UserError if they cannot be listed.
    """
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
        digest.update(_file(path.stat(), path.name))
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = os.path.join(folder, name)
            digest.update(_file(os.stat(file), os.path.relpath(file, path)))
    return digest.hexdigest()[:16]


def _objects(wanted: settings.Data) -> str:
    from components.sources import remote  # loads boto3

    digest = hashlib.sha256()
    for one in remote.find(wanted.source, wanted.newest_spans):
        digest.update(f"{one.name}\0{one.size}\0{one.etag}\n".encode())
    return digest.hexdigest()[:16]


def _file(status: os.stat_result, name: str) -> bytes:
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()
