"""Images as arrays, for what is measured without the pipeline. Needs no TensorFlow.

    python -m benchmarks.arrays SOURCE FILE.npz

writes a data set as an .npz file, train and validation together, which is read much faster than many pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import pathlib
import tempfile

import numpy as np
import PIL.Image

from components import shapes
from components.sources import BadRecord, Source, open_source
from core import images, settings
from core.errors import UserError

DRAWN = {"train": 12_000, "test": 2_000}  # shapes10, as components.shapes10 has it
KEYS = ("x_train", "y_train", "x_test", "y_test")  # of an .npz file, as Keras names them


def main(arguments: list[str] | None = None) -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arrays", description=__doc__.splitlines()[0])
    parser.add_argument("source", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("file", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    try:
        data = load(asked.source, validation_share=0)
    except UserError as problem:
        parser.error(str(problem))
    train, test = data.train, data.test
    np.savez(asked.file, x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)


@dataclasses.dataclass(frozen=True)
class Split:
    """Images uint8 [n, height, width, 3] and labels int64 [n]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def take(self, chosen: slice | np.ndarray) -> Split:
        """Some of the examples."""
        return Split(self.images[chosen], self.labels[chosen])


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A data set; `validation` is what the pipeline holds out of train, too."""

    train: Split
    validation: Split
    test: Split
    classes: int

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and variance of each colour channel over the training images."""
        counts = [np.bincount(self.train.images[..., channel].ravel(), minlength=256) for channel in range(3)]
        values = np.arange(256)
        means = [float(np.average(values, weights=count)) for count in counts]
        squares = [float(np.average(values**2, weights=count)) for count in counts]
        return tuple(means), tuple(square - mean**2 for mean, square in zip(means, squares, strict=True))


def load(source: str, images_at_most: int | None = None, validation_share: float = 0.1) -> Arrays:
    """A data set as arrays.

    Args:
        source: "shapes10"; a CIFAR-10 archive, packed or not; a folder of images, all of one size; or an .npz file
            with x_train, y_train, x_test and y_test.
        images_at_most: of train and validation together, and of test.
        validation_share: of train, chosen by the pixels as the pipeline does.

    Raises:
        UserError: there is no such data, it cannot be read, or the images differ in size.
    """
    if source == "shapes10":
        found = {split: _drawn(split, min(count, images_at_most or count)) for split, count in DRAWN.items()}
        classes = len(shapes.CLASSES)
    elif source.endswith(".npz"):
        found = _from_npz(pathlib.Path(source).expanduser())
        classes = int(max(split.labels.max() for split in found.values())) + 1
    elif settings.looks_like_path(source) or os.path.exists(source):
        with tempfile.TemporaryDirectory() as scratch:
            opened = open_source(settings.Data(source=os.path.abspath(source)), pathlib.Path(scratch))
            found = {split: _read(opened, split) for split in DRAWN}
        classes = len(opened.class_names)
    else:
        raise UserError(f"{source} is neither shapes10 nor an archive, a folder or an .npz file.")
    found = {split: part.take(slice(images_at_most)) for split, part in found.items()}
    train = found["train"]
    shares = [images.share_of(images.digest(image)) for image in train.images]
    held_out = np.array(shares) < validation_share
    return Arrays(train.take(~held_out), train.take(held_out), found["test"], classes)


def _drawn(split: str, count: int) -> Split:
    return Split(*shapes.draw(range(count), split))


def _from_npz(path: pathlib.Path) -> dict[str, Split]:
    try:
        with np.load(path, allow_pickle=False) as file:
            x_train, y_train, x_test, y_test = (file[key] for key in KEYS)
    except (OSError, ValueError, KeyError) as problem:
        raise UserError(f"{path} is no .npz file with {', '.join(KEYS)}: {problem}.") from None
    return {"train": _checked(path, x_train, y_train), "test": _checked(path, x_test, y_test)}


def _checked(path: pathlib.Path, pixels: np.ndarray, labels: np.ndarray) -> Split:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or labels.size != len(pixels):
        raise UserError(f"{path} must hold uint8 images [n, height, width, 3] and n labels.")
    return Split(pixels, labels.reshape(-1).astype(np.int64))


def _read(source: Source, split: str) -> Split:
    pixels, labels = [], []
    for shard in source.shards():
        if shard.split != split:
            continue
        for record in source.read(shard):
            if isinstance(record, BadRecord):
                raise UserError(f"{record.where}: {record.why}.")
            pixels.append(_decoded(record.image))
            labels.append(record.label)
    sizes = {image.shape for image in pixels}
    if len(sizes) != 1:
        raise UserError(f"The images of the split {split} must have one size, not {len(sizes)}.")
    return Split(np.stack(pixels), np.array(labels, np.int64))


def _decoded(image: bytes | np.ndarray) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    with PIL.Image.open(io.BytesIO(image)) as opened:
        return np.asarray(opened.convert("RGB"))


if __name__ == "__main__":
    main()
