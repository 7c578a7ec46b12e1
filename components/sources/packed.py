"""Data in an archive: class folders, a manifest or CIFAR-10 batches, unpacked into scratch and read there."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

from components.sources import archives, containers, folders, foreign, manifests
from components.sources.base import BadRecord, Record, Shard, Source
from core import settings
from core.errors import UserError
from core.events import emit
from core.text import plain
from core.walk import walk

DEEPEST = 3  # archives within archives
SHOWN = 5  # of what an archive holds instead of data
EXPECTED = (
    "expected are <class>/, or train/<class>/ and test/<class>/, with pictures, a manifest of them (CSV or Parquet "
    "with the columns path and label), or the batches of CIFAR-10"
)


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
            with _called(folder, name):
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
        with _called(folder, name):
            inner = open_folder(root, name, data)
        return cls(inner=inner, class_names=inner.class_names, passed_over=dict(+passed_over))

    @property
    def own_validation(self) -> bool:
        return self.inner.own_validation

    @property
    def own_test(self) -> bool:
        return self.inner.own_test

    def shards(self) -> list[Shard]:
        return self.inner.shards()

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        return self.inner.read(shard)

    def ignored(self) -> dict[str, int]:
        return dict(collections.Counter(self.inner.ignored()) + collections.Counter(self.passed_over))


@contextlib.contextmanager
def _called(folder: pathlib.Path, name: str) -> Iterator[None]:
    """Has what is raised call a folder as the user does."""
    try:
        yield
    except UserError as problem:
        raise UserError(str(problem).replace(str(folder), name)) from None


def open_folder(root: pathlib.Path, name: str, data: settings.Data) -> Source:
    """The source in a folder, which messages call `name`: batches, a manifest, or class folders. Raises UserError."""
    if archives.ArchiveSource.recognises(root):
        if data.features:
            raise UserError(f"data.features names {data.features[0]}, but {name} has no further ones.")
        return archives.ArchiveSource.open(root)
    if not folders.has_splits(root) and (manifest := manifests.find(root)):
        emit("note", text=f"{plain(manifest.name)} in {plain(name)} says which pictures there are")
        return manifests.ManifestSource.open(manifest, data, confined=True, whole=True)
    return folders.FolderSource.open(root, data)


def _root(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The folder that holds data: the given one, or one below it that has only one beside it.

    Raises:
        UserError: several could be meant.
    """
    while True:
        if found := archives.find(folder):
            return found[0]
        if folders.has_splits(folder) or manifests.find(folder):
            return folder
        inner = sorted(child for child in folder.iterdir() if child.is_dir())
        roots = [child for child in inner if folders.has_splits(child) or manifests.find(child)]
        if len(roots) > 1:
            names = ", ".join(plain(root.name) for root in roots[:SHOWN])
            raise UserError(f"{name} holds several sets of data ({names}): unpack it and give the folder of one.")
        if roots:
            return roots[0]
        if len(inner) > 1:  # classes, or one folder of them and others beside it
            inner = [child for child in inner if _has_pictures(child)]
            if len(inner) > 1:
                return folder
        if len(inner) != 1:
            return None
        folder = inner[0]


def _has_pictures(folder: pathlib.Path) -> bool:
    return any(file.suffix.lower() in folders.suffixes() for file in _files(folder))


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
