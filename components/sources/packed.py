"""Data in an archive: class folders or CIFAR-10 batches, unpacked into a scratch folder and read there."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

from components.sources import archives, containers, foreign
from components.sources.base import BadRecord, Record, Shard, Source
from components.sources.folders import SPAN, SPLITS, FolderSource
from core import settings
from core.errors import UserError
from core.text import plain
from core.walk import walk

DEEPEST = 3  # archives within archives
SHOWN = 5  # of what an archive holds instead of data
EXPECTED = "expected are train/<class>/ and test/<class>/ with pictures, or the batches of CIFAR-10"


@dataclasses.dataclass(frozen=True)
class PackedSource(Source):
    """What was found in an archive, and what of its members was passed over."""

    inner: Source
    class_names: tuple[str, ...]
    passed_over: Mapping[str, int]

    @classmethod
    def open(cls, path: pathlib.Path, data: settings.Data, scratch: pathlib.Path) -> PackedSource:
        """Unpacks an archive into `scratch`, and the one archive in it if it holds nothing else of use.

        Args:
            path: the archive; messages call it `data.source`.
            data: the settings of the data.
            scratch: a folder; what is written there is read later, and then the caller removes it.

        Raises:
            UserError: see `containers.unpack`; or there are no data in it, or more than one set.
        """
        passed_over: collections.Counter[str] = collections.Counter()
        name = data.source
        for level in range(DEEPEST):
            folder = scratch / f"unpacked-{level}"
            passed_over.update(containers.unpack(path, name, folder))
            root = _root(folder, name)
            nested = None if root else _only_archive(folder)
            if not nested:
                break
            passed_over[f"beside the archive {plain(nested.name)}"] += _count(folder) - 1
            path, name = nested, f"{plain(nested.name)} in {name}"
        if not root:
            raise UserError(f"{name} holds no data that can be read: {EXPECTED}; it has {_contents(folder)}.")
        if outside := _count(folder) - _count(root):
            passed_over[f"outside of the folder {plain(root.relative_to(folder))}"] += outside
        try:
            inner = open_folder(root, name, data)
        except UserError as problem:  # in the user's words
            raise UserError(str(problem).replace(str(folder), name)) from None
        return cls(inner=inner, class_names=inner.class_names, passed_over=dict(+passed_over))

    def shards(self) -> list[Shard]:
        return self.inner.shards()

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        return self.inner.read(shard)

    def ignored(self) -> dict[str, int]:
        return dict(collections.Counter(self.inner.ignored()) + collections.Counter(self.passed_over))


def open_folder(root: pathlib.Path, name: str, data: settings.Data) -> Source:
    """The source in a folder, which messages call `name`: batches, or class folders. Raises UserError."""
    if not archives.ArchiveSource.recognises(root):
        return FolderSource.open(root, data.newest_spans, data.features)
    if data.features:
        raise UserError(f"data.features names {data.features[0]}, but {name} has no further ones.")
    return archives.ArchiveSource.open(root)


def _root(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The folder that holds splits, spans or batches: the given one, or one below it that has only one beside it.

    Raises:
        UserError: several could be meant.
    """
    while True:
        if found := archives.find(folder):
            return found[0]
        if _has_splits(folder):
            return folder
        inner = sorted(child for child in folder.iterdir() if child.is_dir())
        roots = [child for child in inner if _has_splits(child)]
        if len(roots) > 1:
            names = ", ".join(plain(root.name) for root in roots[:SHOWN])
            raise UserError(f"{name} holds several sets of data ({names}): unpack it and give the folder of one.")
        if roots or len(inner) != 1:
            return roots[0] if roots else None
        folder = inner[0]


def _has_splits(folder: pathlib.Path) -> bool:
    return any(child.is_dir() and (child.name in SPLITS or SPAN.match(child.name)) for child in folder.iterdir())


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (folder / entry.path for entry in walk(folder))


def _count(folder: pathlib.Path) -> int:
    return sum(1 for _ in _files(folder))


def _only_archive(folder: pathlib.Path) -> pathlib.Path | None:
    """The one archive among the files; None if there is none, or another one."""
    found = None
    for file in _files(folder):
        if containers.is_archive(file):
            if found:
                return None
            found = file
    return found


def _contents(folder: pathlib.Path) -> str:
    """What there is, for a message: some names, and of the first file of a known kind what to do with it."""
    names = [plain(file.relative_to(folder)) for file in _files(folder)]
    text = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
    for file in _files(folder):
        if containers.is_archive(file):
            return f"{text}; unpack it and the archives in it, and give the folder"
        with open(file, "rb") as opened:
            kind = foreign.describe(opened.read(foreign.HEAD))
        if kind and file.suffix.lower() not in (".png", ".jpg", ".jpeg", ".gif", ".webp"):
            return f"{text}; {plain(file.name)} is {kind}"
    return text
