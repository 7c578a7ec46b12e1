"""Folders of images: `train|test/<class>/**`, optionally below `span-N/` folders."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Iterator

from components.sources.base import BadRecord, Record, Shard, Source
from core import images
from core.errors import UserError
from core.walk import Entry, printable, subfolders, walk

SPLITS = ("train", "test")
SPAN_KEY = "span"
SPAN = re.compile(r"span-(\d+)$")
LAYOUT = "expected are train/<class>/ and test/<class>/ with image files"


@dataclasses.dataclass(frozen=True)
class FolderSource(Source):
    """Images sorted into folders by split and class, at any depth below the class; ids are paths below the folder."""

    root: str
    spans: tuple[str, ...]  # folders below root that hold the splits; "" for the root itself
    class_names: tuple[str, ...]
    features: tuple[str, ...] = ()  # further ones to keep: none, or the span

    @classmethod
    def open(cls, root: pathlib.Path, newest_spans: int = 0, features: tuple[str, ...] = ()) -> FolderSource:
        """Looks at the folders below `root`.

        Args:
            root: the folder.
            newest_spans: how many of its highest-numbered `span-N` folders to take; 0 for all.
            features: further features to keep; a folder with spans has "span".

        Raises:
            UserError: a split is missing or has no class, there is no such feature, or a folder cannot be read.
        """
        spans = newest(root, newest_spans)
        known = (SPAN_KEY,) if spans != ("",) else ()
        for key in features:
            if key not in known:
                raise UserError(f"data.features names {key}, but {root} has {' '.join(known) or 'no further ones'}.")
        classes: set[str] = set()
        for split in SPLITS:
            found = {printable(name) for span in spans for name in subfolders(root, os.path.join(span, split))}
            if not found:
                missing = " or ".join(str(root / span / split) for span in spans[:3])
                raise UserError(f"There is no class folder in {missing}: {LAYOUT}.")
            classes |= found
        return cls(root=str(root), spans=spans, class_names=tuple(sorted(classes)), features=features)

    def shards(self) -> list[Shard]:
        return [
            Shard(split=split, name=os.path.join(span, split, name), class_name=printable(name))
            for span in self.spans
            for split in SPLITS
            for name in subfolders(self.root, os.path.join(span, split))
        ]

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        label = self.class_names.index(shard.class_name)
        kept = dict.fromkeys(self.features, pathlib.PurePath(shard.name).parts[0])
        for entry in walk(self.root, shard.name):
            if self._passed_over(entry):
                continue
            where = printable(entry.path)
            if entry.problem:
                yield BadRecord(where, entry.problem)
                continue
            try:
                data = pathlib.Path(self.root, entry.path).read_bytes()
            except OSError as problem:
                yield BadRecord(where, (problem.strerror or "cannot be read").lower())
                continue
            yield Record(image=data, label=label, id=where, features=kept)

    def ignored(self) -> dict[str, int]:
        """Of everything below the folder that `read` does not give: why, and how many."""
        return dict(collections.Counter(filter(None, map(self._passed_over, walk(self.root)))))

    def _passed_over(self, entry: Entry) -> str:
        """Why `entry` is no example, not even a bad one; "" if it is one."""
        parts = pathlib.PurePath(entry.path).parts
        if any(part.startswith(".") for part in parts):
            return "hidden"
        if self.spans != ("",):
            if parts[0] not in self.spans:
                return "outside the span folders that were asked for"
            parts = parts[1:]
        if parts[0] not in SPLITS or len(parts) == 1:
            return "outside train/ and test/"
        if len(parts) == 2:
            return f"directly in {parts[0]}/, in no class folder"
        suffix = os.path.splitext(entry.path)[1].lower()
        if suffix not in _suffixes():
            return f"not an image file ({suffix or 'no suffix'})"
        return ""


def newest(root: pathlib.Path, count: int) -> tuple[str, ...]:
    """The names of the `count` newest spans below `root` (0: all), oldest first; ("",) if it has none."""
    numbered = sorted((int(match[1]), name) for name in subfolders(root) if (match := SPAN.match(name)))
    names = tuple(name for _, name in numbered)
    return names[-count:] if names else ("",)


@functools.cache
def _suffixes() -> frozenset[str]:
    return images.suffixes()
