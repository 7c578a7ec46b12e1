"""What the trainer has to know about the training split, read from the transform graph.

`preprocessing.py` measures it. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib

import numpy as np

from core.errors import UserError

ASSETS = "transform_fn/assets"  # where TFT keeps the vocabularies in the transform graph
CLASSES = "classes"  # asset with lines of "<examples> <label> <class name>"
HISTOGRAM = "histogram"  # asset with lines of "<pixels> <channel> <value>"
CHANNELS, VALUES = 3, 256


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """The training split in a few numbers; label i has class_names[i] and class_counts[i] examples."""

    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    mean: tuple[float, ...]  # of each channel, of pixels 0 to 255
    variance: tuple[float, ...]
    image_size: int  # side of the stored images in pixels

    @property
    def examples(self) -> int:
        """Number of training examples."""
        return sum(self.class_counts)


def read_summary(transform_graph: str | pathlib.Path) -> DataSummary:
    """The summary from a transform graph's folder (the `transform_graph` artifact, FnArgs.transform_output).

    Raises:
        UserError: the labels of the training split are not 0, 1, 2, ... or one of them has two names.
    """
    assets = pathlib.Path(transform_graph) / ASSETS
    names, counts = _classes(assets / CLASSES)
    pixels = _histogram(assets / HISTOGRAM)
    share = pixels / pixels.sum(axis=1, keepdims=True)
    mean = share @ np.arange(VALUES)
    variance = share @ np.arange(VALUES) ** 2 - mean**2
    size = math.isqrt(round(pixels[0].sum() / sum(counts)))  # each image has size² pixels
    return DataSummary(names, counts, tuple(mean.tolist()), tuple(variance.tolist()), size)


def _classes(file: pathlib.Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and counts by label."""
    rows = [line.split(" ", 2) for line in file.read_text().split("\n") if line]
    classes = sorted((int(label), name, int(count)) for count, label, name in rows)
    for expected, (label, name, _) in enumerate(classes):
        if label != expected:
            odd = f"label {label} is also {name!r}" if label < expected else f"label {expected} has no example"
            raise UserError(f"The labels of the training split must be 0, 1, 2, ... with one name each: {odd}.")
    return tuple(name for _, name, _ in classes), tuple(count for _, _, count in classes)


def _histogram(file: pathlib.Path) -> np.ndarray:
    """How often each value occurs, float64 [channels, 256]."""
    counts = np.zeros([CHANNELS, VALUES])
    for line in file.read_text().splitlines():
        count, channel, value = line.split(" ")
        counts[int(channel), int(value)] = float(count)
    return counts
