"""Writing files that readers may look at meanwhile."""

from __future__ import annotations

import os
import pathlib


def replace(path: pathlib.Path, content: str | bytes) -> None:
    """Writes `content` so that `path` is complete, as it was before, or not there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, path)
