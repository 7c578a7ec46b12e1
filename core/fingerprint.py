"""Fingerprints of code, so that the cache never answers for code that has changed."""

from __future__ import annotations

import functools
import hashlib
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


@functools.cache
def code(*names: str) -> str:
    """Of source files of the project, given as paths below its root; a folder stands for all its files."""
    digest = hashlib.sha256()
    for name in names:
        path = ROOT / name
        inside = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        for file in sorted(inside) if path.is_dir() else [path]:
            digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
