"""Folders of images: `train|test/<class>/*.{jpg,png}`, optionally below `span-N/` folders."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator

from components.sources.base import BadRecord, Record, Shard, Source
from core.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
SPLITS = ("train", "test")
SPAN_KEY = "span"
SPAN = re.compile(r"span-(\d+)$")
LAYOUT = "expected are train/<class>/*.jpg|png and test/<class>/*.jpg|png"


@dataclasses.dataclass(frozen=True)
class FolderSource(Source):
    """Images sorted into folders by split and class; ids are paths below the folder."""

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
            UserError: a split is missing or has no class, or there is no such feature.
        """
        spans = newest(root, newest_spans)
        known = (SPAN_KEY,) if spans != ("",) else ()
        for key in features:
            if key not in known:
                raise UserError(f"data.features names {key}, but {root} has {' '.join(known) or 'no further ones'}.")
        classes: set[str] = set()
        for split in SPLITS:
            found = {name for span in spans for name in _subfolders(root / span / split)}
            if not found:
                missing = " or ".join(str(root / span / split) for span in spans[:3])
                raise UserError(f"There is no class folder in {missing}: {LAYOUT}.")
            classes |= found
        return cls(root=str(root), spans=spans, class_names=tuple(sorted(classes)), features=features)

    def shards(self) -> list[Shard]:
        return [
            Shard(split=split, name=os.path.join(span, split, name), class_name=name)
            for span in self.spans
            for split in SPLITS
            for name in _subfolders(pathlib.Path(self.root, span, split))
        ]

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        label = self.class_names.index(shard.class_name)
        kept = dict.fromkeys(self.features, pathlib.PurePath(shard.name).parts[0])
        for name in sorted(_images(pathlib.Path(self.root, shard.name))):
            where = os.path.join(shard.name, name)
            try:
                data = pathlib.Path(self.root, where).read_bytes()
            except OSError as problem:
                yield BadRecord(where, problem.strerror or "cannot be read")
                continue
            yield Record(image=data, label=label, id=where, features=kept)

    def ignored(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for shard in self.shards():
            with os.scandir(pathlib.Path(self.root, shard.name)) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and not entry.name.lower().endswith(SUFFIXES):
                        kind = pathlib.PurePath(entry.name).suffix or "no suffix"
                        counts[f"not an image file ({kind})"] = counts.get(f"not an image file ({kind})", 0) + 1
        return counts


def newest(root: pathlib.Path, count: int) -> tuple[str, ...]:
    """The names of the `count` newest spans below `root` (0: all), oldest first; ("",) if it has none."""
    numbered = sorted((int(match[1]), name) for name in _subfolders(root) if (match := SPAN.match(name)))
    names = tuple(name for _, name in numbered)
    return names[-count:] if names else ("",)


def _subfolders(path: pathlib.Path) -> list[str]:
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(path: pathlib.Path) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                yield entry.name
