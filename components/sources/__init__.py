"""Where examples come from: every source yields the same records, whatever lies on disk.

No orchestrator and no Beam here: `open_source` finds the right `Source`, whose `read` turns one shard into
records. `components.example_gen` runs that in parallel.
"""

from __future__ import annotations

import pathlib

from components.sources.base import BadRecord, Record, Shard, Source
from pipeline import settings
from pipeline.errors import UserError

__all__ = ["BadRecord", "Record", "Shard", "Source", "open_source"]


def open_source(data: settings.Data, scratch: pathlib.Path) -> Source:
    """The source that `data.source` names.

    Args:
        data: the settings of the data.
        scratch: a folder for what has to be unpacked or drawn; the caller removes it when all is read.

    Raises:
        UserError: there is no such source, or it is not laid out as it should be.
    """
    if not settings.looks_like_path(data.source):
        from components.sources.builders import BuilderSource

        return BuilderSource.open(data, scratch)
    path = pathlib.Path(data.source).expanduser().resolve()
    if not path.exists():
        raise UserError(f"The data source {path} does not exist.")

    from components.sources.archives import ArchiveSource
    from components.sources.folders import FolderSource

    if path.is_file() or ArchiveSource.recognises(path):
        if data.features:
            raise UserError(f"data.features names {data.features[0]}, but {path} has no further ones.")
        return ArchiveSource.open(path, scratch)
    return FolderSource.open(path, data.newest_spans, data.features)
