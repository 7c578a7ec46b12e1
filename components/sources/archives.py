"""The two classic CIFAR-10 archives, `cifar-10-python` (Kaggle's, too) and `cifar-10-binary`, packed or unpacked.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. A batch holds images of 32x32 pixels, stored as 1,024 red,
1,024 green and 1,024 blue values, row by row.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import tarfile
from collections.abc import Iterator

import numpy as np

from components.sources import cifar_pickle
from components.sources.base import BadRecord, Record, Shard, Source
from core.errors import UserError

SIDE = 32
PIXELS = SIDE * SIDE * 3
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
META = {"": "batches.meta", ".bin": "batches.meta.txt"}
EXPECTED = (
    "expected is cifar-10-python or cifar-10-binary as an archive or its unpacked folder (data_batch_1..5, "
    "test_batch and batches.meta, or the same with .bin and batches.meta.txt), or a folder with train/<class> and "
    "test/<class>"
)


@dataclasses.dataclass(frozen=True)
class ArchiveSource(Source):
    """The six batches of an unpacked archive; ids are the batch and the image's number or own name."""

    folder: str
    suffix: str  # of the batches: "" for the pickled ones, ".bin"
    class_names: tuple[str, ...]

    @classmethod
    def recognises(cls, folder: pathlib.Path) -> bool:
        """Whether `folder` (or the one folder in it) holds batches of either kind."""
        return _find(folder) is not None

    @classmethod
    def open(cls, path: pathlib.Path, scratch: pathlib.Path) -> ArchiveSource:
        """Finds the batches; an archive is unpacked into `scratch`.

        Raises:
            UserError: not such an archive, or a batch is missing.
        """
        folder = path
        if path.is_file():
            folder = scratch / "archive"
            _unpack(path, folder)
        found = _find(folder)
        if not found:
            raise UserError(f"{path} holds no CIFAR-10 batches: {EXPECTED}.")
        folder, suffix = found
        for name in (*TRAIN, TEST):
            if not (folder / (name + suffix)).is_file():
                raise UserError(f"{path} lacks the file {name}{suffix}: get the archive again.")
        return cls(folder=str(folder), suffix=suffix, class_names=_class_names(folder, suffix))

    def shards(self) -> list[Shard]:
        return [Shard("train" if name in TRAIN else "test", name + self.suffix) for name in (*TRAIN, TEST)]

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        path = pathlib.Path(self.folder, shard.name)
        return self._read_binary(path) if self.suffix else self._read_pickle(path)

    def _read_binary(self, path: pathlib.Path) -> Iterator[Record | BadRecord]:
        number = 0
        with open(path, "rb") as file:
            while record := file.read(1 + PIXELS):
                if len(record) < 1 + PIXELS:
                    yield BadRecord(f"{path.name}, record {number}", "the file ends within the record")
                else:
                    pixels = np.frombuffer(record, np.uint8, offset=1)
                    yield Record(to_image(pixels), record[0], f"{path.stem}_{number:05d}")
                number += 1

    def _read_pickle(self, path: pathlib.Path) -> Iterator[Record | BadRecord]:
        batch = cifar_pickle.load_batch(path)
        for number, (pixels, label, name) in enumerate(zip(batch.pixels, batch.labels, batch.names, strict=True)):
            if pixels.shape != (PIXELS,):
                yield BadRecord(f"{path.name}, record {number}", f"{pixels.size} values instead of {PIXELS}")
            else:
                yield Record(to_image(pixels), label, f"{path.name}/{name or number}")


def to_image(pixels: np.ndarray) -> np.ndarray:
    """uint8 [3072], channel after channel, as the [32, 32, 3] image."""
    return np.ascontiguousarray(pixels.reshape(3, SIDE, SIDE).transpose(1, 2, 0))


def _find(folder: pathlib.Path) -> tuple[pathlib.Path, str] | None:
    """The folder with the batches and their suffix."""
    nested = [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
    for place in (folder, *nested):
        for suffix, meta in META.items():
            if (place / meta).is_file() or (place / (TRAIN[0] + suffix)).is_file():
                return place, suffix
    return None


def _class_names(folder: pathlib.Path, suffix: str) -> tuple[str, ...]:
    meta = folder / META[suffix]
    if not meta.is_file():
        raise UserError(f"{folder} lacks the file {meta.name}, which holds the names of the classes.")
    if not suffix:
        return cifar_pickle.load_label_names(meta)
    names = tuple(line.strip() for line in meta.read_text(errors="replace").splitlines() if line.strip())
    if not names:
        raise UserError(f"{meta} holds no names of classes.")
    return names


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Takes the batches, and nothing else, out of the archive: no path in it is followed."""
    folder.mkdir(parents=True)
    wanted = {name + suffix for suffix in META for name in (*TRAIN, TEST)} | set(META.values())
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = pathlib.PurePosixPath(member.name).name
                if member.isfile() and name in wanted and (packed := archive.extractfile(member)):
                    with packed, open(folder / name, "wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
    except (tarfile.TarError, OSError, EOFError) as problem:
        raise UserError(f"{path} is not a complete tar archive ({problem}): get it again.") from None
