"""The batches of the two classic CIFAR-10 archives, `cifar-10-python` (Kaggle's, too) and `cifar-10-binary`.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. A batch holds images of 32x32 pixels, stored as 1,024 red,
1,024 green and 1,024 blue values, row by row. Batches have no checksums, so they are checked against each other: each
of the five training batches has the same number of records, but for the last, which may have fewer (a subset of one's
own); that, and a test batch of another size, is told. The original has 10,000 in each of the six.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np

from components.sources import cifar_pickle
from components.sources.base import BadRecord, Record, Shard, Source
from core.errors import UserError
from core.events import emit

SIDE = 32
PIXELS = cifar_pickle.PIXELS
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
META = {"": "batches.meta", ".bin": "batches.meta.txt"}
README = "readme.html"  # belongs to the original
AGAIN = "get the archive again"


@dataclasses.dataclass(frozen=True)
class ArchiveSource(Source):
    """The six batches of an unpacked archive; ids are the batch and the image's number or own name."""

    folder: str
    suffix: str  # of the batches: "" for the pickled ones, ".bin"
    class_names: tuple[str, ...]

    @classmethod
    def recognises(cls, folder: pathlib.Path) -> bool:
        """Whether `folder` (or a folder in it) holds batches of either kind."""
        return find(folder) is not None

    @classmethod
    def open(cls, path: pathlib.Path) -> ArchiveSource:
        """Finds the batches in a folder (or in a folder in it), and checks them.

        Raises:
            UserError: there are none, or one is missing, damaged, or of another size than it should be.
        """
        found = find(path)
        if not found:
            raise UserError(f"{path} holds no CIFAR-10 batches.")
        folder, suffix = found
        source = cls(folder=str(folder), suffix=suffix, class_names=_class_names(folder, suffix))
        _check_counts(folder, {name + suffix: source._count(folder / (name + suffix)) for name in (*TRAIN, TEST)})
        return source

    def shards(self) -> list[Shard]:
        return [Shard("train" if name in TRAIN else "test", name + self.suffix) for name in (*TRAIN, TEST)]

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        path = pathlib.Path(self.folder, shard.name)
        for record in self._read_binary(path) if self.suffix else self._read_pickle(path):
            if 0 <= record.label < len(self.class_names):
                yield record
            else:
                yield BadRecord(record.id, f"label {record.label} is none of the {len(self.class_names)} classes")

    def ignored(self) -> dict[str, int]:
        known = {name + self.suffix for name in (*TRAIN, TEST)} | {META[self.suffix], README}
        others = (file for file in pathlib.Path(self.folder).iterdir() if file.is_file() and file.name not in known)
        return dict(collections.Counter("not one of the batches" for file in others if file.name[0] != "."))

    def _count(self, path: pathlib.Path) -> int:
        """The number of records in a batch. Raises UserError if it is missing or no complete batch."""
        if not path.is_file():
            raise UserError(f"{path.parent} lacks the file {path.name}: {AGAIN}.")
        if not self.suffix:
            return len(cifar_pickle.load_batch(path).labels)
        count, rest = divmod(path.stat().st_size, 1 + PIXELS)
        if rest:
            raise UserError(
                f"{path} ends within a record (it has {path.stat().st_size:,} bytes, no multiple of {1 + PIXELS:,}): "
                f"{AGAIN}."
            )
        return count

    def _read_binary(self, path: pathlib.Path) -> Iterator[Record]:
        number = 0
        with open(path, "rb") as file:
            while len(record := file.read(1 + PIXELS)) == 1 + PIXELS:
                yield Record(
                    to_image(np.frombuffer(record, np.uint8, offset=1)), record[0], f"{path.stem}_{number:05d}"
                )
                number += 1

    def _read_pickle(self, path: pathlib.Path) -> Iterator[Record]:
        batch = cifar_pickle.load_batch(path)
        for number, (pixels, label, name) in enumerate(zip(batch.pixels, batch.labels, batch.names, strict=True)):
            yield Record(to_image(pixels), label, f"{path.name}/{name or number}")


def to_image(pixels: np.ndarray) -> np.ndarray:
    """uint8 [3072], channel after channel, as the [32, 32, 3] image."""
    return np.ascontiguousarray(pixels.reshape(3, SIDE, SIDE).transpose(1, 2, 0))


def find(folder: pathlib.Path) -> tuple[pathlib.Path, str] | None:
    """The folder with batches, which is `folder` or the first one in it, and their suffix."""
    nested = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    for place in (folder, *nested):
        for suffix, meta in META.items():
            if (place / meta).is_file() or (place / (TRAIN[0] + suffix)).is_file():
                return place, suffix
    return None


def _check_counts(folder: pathlib.Path, counts: dict[str, int]) -> None:
    """Raises UserError if a batch has no records, or others than its like; tells of what is only unusual."""
    for name, count in counts.items():
        if not count:
            raise UserError(f"{folder / name} is empty: {AGAIN}.")
    *train, last, test = counts
    usual = collections.Counter(counts[name] for name in train).most_common(1)[0][0]
    for name in (*train, last):
        if counts[name] > usual or (counts[name] < usual and name != last):
            raise UserError(
                f"{folder / name} has {counts[name]:,} records, but other training batches have {usual:,}: {AGAIN}."
            )
    for name in (last, test):
        if counts[name] != usual:
            emit("warning", text=f"{name} has {counts[name]:,} records where the training batches have {usual:,}")


def _class_names(folder: pathlib.Path, suffix: str) -> tuple[str, ...]:
    meta = folder / META[suffix]
    if not meta.is_file():
        raise UserError(f"{folder} lacks the file {meta.name}, which holds the names of the classes: {AGAIN}.")
    if suffix:
        lines = meta.read_bytes().decode("utf-8", "replace").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
    else:
        names = cifar_pickle.load_label_names(meta)
    if not names or len(set(names)) < len(names):
        raise UserError(f"{meta} holds {'the name of a class twice' if names else 'no names of classes'}: {AGAIN}.")
    return names
