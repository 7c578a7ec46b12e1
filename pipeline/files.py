"""Writing files that readers may look at meanwhile."""

from __future__ import annotations

import os
import pathlib


def replace(path: pathlib.Path, text: str) -> None:
    """Writes `text` so that `path` is complete, as it was before, or not there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)
