"""The synthetic data set `shapes10` for TensorFlow Datasets: the pictures of `components.shapes`, no download.

    import components.shapes10  # registers the builder
    train = tfds.load("shapes10/default", split="train", as_supervised=True)

It shows ten geometric shapes and is no substitute for photos: it lets the pipeline run and be tested without a
network, on pictures that have to be learnt. As a guide, a linear model on the raw pixels reaches 37 % on the test
split and a five-layer convolutional network of 0.35 million parameters 94 % after seven epochs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from components import shapes

_CHUNK = 1_000  # pictures held in memory at once while the data set is written

_DESCRIPTION = """
Synthetic 32x32 colour pictures of ten geometric shapes (circle, crescent, cross, ellipse, pentagon, rectangle, ring,
square, star, triangle), drawn by a program and the same on every machine. Position, size, turn, colours, background,
sharpness and sensor noise vary, and a bar or a blob may cover part of the shape. Circle and ellipse, square and
rectangle are alike on purpose. These are not photos, and results on them say nothing about photos.
"""


@dataclasses.dataclass(eq=False, kw_only=True)
class Shapes10Config(tfds.core.BuilderConfig):
    """How many pictures each split has. A smaller configuration is the beginning of a larger one.

    Attributes:
        train_examples: pictures in the split `train`, at least 1.
        test_examples: pictures in the split `test`, at least 1.
    """

    train_examples: int = 12_000
    test_examples: int = 2_000

    def __post_init__(self) -> None:
        for field in ("train_examples", "test_examples"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} has to be at least 1, not {getattr(self, field)}")


class Shapes10(tfds.core.GeneratorBasedBuilder):
    """Builder of `shapes10`: image uint8 [32, 32, 3], label int64 in alphabetical order, id such as train-00042."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        Shapes10Config(name="default", description="12,000 training and 2,000 test pictures."),
        Shapes10Config(
            name="small",
            description="1,500 training and 500 test pictures, for quick tests.",
            train_examples=1_500,
            test_examples=500,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(shapes.SIDE, shapes.SIDE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(shapes.CLASSES)),
                    "id": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            license="Apache-2.0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        return {
            "train": self._generate_examples("train", config.train_examples),
            "test": self._generate_examples("test", config.test_examples),
        }

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The first `count` pictures of `split`, each with its id as key; TFDS stores them in the order of a hash."""
        for start in range(0, count, _CHUNK):
            indices = range(start, min(start + _CHUNK, count))
            for index, image, label in zip(indices, *shapes.draw(indices, split), strict=True):
                name = f"{split}-{index:05d}"
                yield name, {"image": image, "label": int(label), "id": name}
