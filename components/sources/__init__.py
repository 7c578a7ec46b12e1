"""Where examples come from: every source yields the same records, whatever lies on disk.

No orchestrator and no Beam here: `open_source` finds the right `Source`, whose `read` turns one shard into
records. `components.example_gen` runs that in parallel.
"""

from __future__ import annotations

import pathlib

from components.sources import manifests
from components.sources.base import BadRecord, Record, Shard, Source
from core import settings
from core.errors import UserError

__all__ = ["BadRecord", "Record", "Shard", "Source", "open_source"]


def open_source(data: settings.Data, scratch: pathlib.Path) -> Source:
    """The source that `data.source` names.

    Args:
        data: the settings of the data.
        scratch: a folder for what has to be downloaded, unpacked or drawn; the caller removes it when all is read.

    Raises:
        UserError: there is no such source, or it is not laid out as it should be.
    """
    if not settings.looks_like_path(data.source):
        from components.sources.builders import BuilderSource

        return BuilderSource.open(data, scratch)
    if settings.is_remote(data.source):
        from components.sources import remote

        path = remote.fetch(data.source, data.newest_spans, scratch)
        try:
            if manifests.is_manifest(path):
                remote.fetch_named(data.source, manifests.named(path), path.parent)
            return _open_path(path, data, scratch, confined=True)
        except UserError as problem:  # in the user's words
            raise UserError(str(problem).replace(str(path), data.source)) from None
    path = pathlib.Path(data.source).expanduser().resolve()
    if not path.exists():
        raise UserError(f"The data source {path} does not exist.")
    return _open_path(path, data, scratch)


def _open_path(path: pathlib.Path, data: settings.Data, scratch: pathlib.Path, confined: bool = False) -> Source:
    from components.sources.packed import PackedSource, open_folder

    if path.is_dir():
        return open_folder(path, str(path), data)
    if manifests.is_manifest(path):
        return manifests.ManifestSource.open(path, data, confined)
    return PackedSource.open(path, data, scratch)
