"""The file in which the schema of a user's own data is stored, and whether it was edited. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import pathlib

HEADER = (
    "# Inferred from the first run's data. Edit it to say what your data may be; the next run reads it again.\n"
    "# As inferred: {digest}\n"
)


def with_header(schema: str) -> str:
    """The file's content for a schema in text format."""
    return HEADER.format(digest=_digest(schema)) + schema


def version(path: pathlib.Path) -> str:
    """Identifies the stored schema for the cache: "" while there is none or it is as it was inferred.

    Both must count as the same, or the results of the run that stores it would never be reused.
    """
    if not path.is_file():
        return ""
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    body = "".join(line for line in lines if not line.startswith("#"))
    digest = _digest(body)
    return "" if any(digest in line for line in lines if line.startswith("#")) else digest


def _digest(schema: str) -> str:
    return hashlib.sha256(schema.encode()).hexdigest()[:16]
