"""Random changes to training images that keep their class. Pure Keras: runs on any Keras backend."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import ops

RATIO = 4 / 3  # of the sides of a part of an image, at most


@keras.saving.register_keras_serializable(package="alexnet")
class RandomCrop(keras.layers.Layer):
    """Shows a part of each training image, as large as the whole (Szegedy et al., Going Deeper with Convolutions,
    2015).

    Its area is an even share of the image's from `smallest` to 1, the logarithm of its aspect ratio even from 3:4 to
    4:3 as far as it fits, its place any. Pixels in between are linear. Without `training` nothing changes.

    Input and output: uint8, [batch, height, width, channels].
    """

    def __init__(self, smallest: float = 1.0, seed: int = 1, **kwargs: object) -> None:
        """
        Args:
            smallest: share of the area that a part has at least; 1 for the whole image.
            seed: of the parts.
            **kwargs: of Keras' layers.
        """
        super().__init__(autocast=False, **kwargs)
        self.smallest, self.seed = smallest, seed
        self._random = keras.random.SeedGenerator(seed)

    def call(self, inputs: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        if not training or self.smallest == 1:
            return inputs
        height, width, channels = inputs.shape[1:]
        batch = ops.shape(inputs)[0]
        area = keras.random.uniform([batch, 1], self.smallest, 1.0, "float32", seed=self._random)
        reach = ops.minimum(math.log(RATIO), -ops.log(area))  # or a side would be longer than the image
        ratio = ops.exp(reach * keras.random.uniform([batch, 1], -1.0, 1.0, "float32", seed=self._random))
        rows, row, down = self._part(batch, height, ops.sqrt(area / ratio))
        columns, column, right = self._part(batch, width, ops.sqrt(area * ratio))
        pixels = ops.reshape(inputs, [-1, channels])
        first = ops.arange(batch)[:, None, None] * (height * width)  # of each image's pixels in the whole batch

        def at(row: keras.KerasTensor, column: keras.KerasTensor) -> keras.KerasTensor:
            places = first + row[:, :, None] * width + column[:, None, :]
            return ops.cast(ops.take(pixels, places, axis=0), "float32")

        down, right = down[:, :, None, None], right[:, None, :, None]
        above = at(row, column) * (1 - right) + at(row, columns) * right
        below = at(rows, column) * (1 - right) + at(rows, columns) * right
        return ops.cast(ops.round(above * (1 - down) + below * down), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "smallest": self.smallest, "seed": self.seed}

    def _part(
        self, batch: int, length: int, share: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
        """Where the positions 0 to length - 1 come from, each [batch, length].

        Args:
            batch: images.
            length: of a side, pixels.
            share: of the side, [batch, 1].

        Returns:
            The pixel after, the pixel before, and how much of the one after.
        """
        start = keras.random.uniform([batch, 1], dtype="float32", seed=self._random) * (1 - share) * length
        place = start + (ops.arange(length, dtype="float32")[None, :] + 0.5) * share - 0.5
        place = ops.clip(place, 0.0, float(length - 1))
        before = ops.floor(place)
        after = ops.minimum(before + 1, float(length - 1))
        return ops.cast(after, "int32"), ops.cast(before, "int32"), place - before


@keras.saving.register_keras_serializable(package="alexnet")
class FlipAndShift(keras.layers.Layer):
    """Mirrors half of the images and moves each by up to `shift` pixels; what is missing is reflected in.

    Each image draws its own flip and shift, from a seeded generator that is part of the layer's state. Both are one
    look-up of whole pixels, which costs little and keeps uint8 as it is. Without `training` nothing changes.

    Input and output: any dtype, [batch, height, width, channels].
    """

    def __init__(self, flip: bool = True, shift: int = 2, seed: int = 1, **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)
        self.flip, self.shift, self.seed = flip, shift, seed
        self._random = keras.random.SeedGenerator(seed)

    def call(self, inputs: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        if not training or not (self.flip or self.shift):
            return inputs
        height, width, channels = inputs.shape[1:]
        batch = ops.shape(inputs)[0]
        rows = self._moved(batch, height)  # where each row of the result comes from, [batch, height]
        columns = self._moved(batch, width)
        if self.flip:
            mirrored = keras.random.randint([batch, 1], 0, 2, seed=self._random)
            columns = ops.where(mirrored == 1, width - 1 - columns, columns)
        first = ops.arange(batch)[:, None, None] * (height * width)  # of each image's pixels in the whole batch
        pixels = first + rows[:, :, None] * width + columns[:, None, :]
        return ops.take(ops.reshape(inputs, [-1, channels]), pixels, axis=0)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "flip": self.flip, "shift": self.shift, "seed": self.seed}

    def _moved(self, batch: int, length: int) -> keras.KerasTensor:
        """Positions 0 to length - 1 moved by a random amount for each image, reflected at the ends."""
        positions = ops.arange(length)[None, :]
        if not self.shift:
            return ops.broadcast_to(positions, [batch, length])
        reach = min(self.shift, length - 1)  # one reflection is enough for that
        positions = positions + keras.random.randint([batch, 1], -reach, reach + 1, seed=self._random)
        last = length - 1
        return last - ops.abs(last - ops.abs(positions))


@keras.saving.register_keras_serializable(package="alexnet")
class Cutout(keras.layers.Layer):
    """Covers a square of each training image (DeVries, Taylor: Improved Regularization of CNNs with Cutout, 2017).

    Its centre is any pixel, so that it may reach over the edge. Without `training` nothing changes.

    Input and output: any dtype, [batch, height, width, channels].
    """

    def __init__(self, size: int, colour: Sequence[float] = (0, 0, 0), seed: int = 1, **kwargs: object) -> None:
        """
        Args:
            size: side of the square in pixels; 0 for none.
            colour: of the square, best the mean of all images; a value for each channel.
            seed: of the places.
            **kwargs: of Keras' layers.
        """
        super().__init__(autocast=False, **kwargs)
        self.size, self.colour, self.seed = size, tuple(map(float, colour)), seed
        self._random = keras.random.SeedGenerator(seed)

    def call(self, inputs: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        if not training or not self.size:
            return inputs
        height, width, _ = inputs.shape[1:]
        batch = ops.shape(inputs)[0]
        covered = self._near(batch, height)[:, :, None, None] & self._near(batch, width)[:, None, :, None]
        colour = ops.cast(ops.convert_to_tensor(self.colour), inputs.dtype)
        return ops.where(covered, colour, inputs)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "size": self.size, "colour": self.colour, "seed": self.seed}

    def _near(self, batch: int, length: int) -> keras.KerasTensor:
        """bool [batch, length]: the `size` positions around a random one of each image."""
        first = keras.random.randint([batch, 1], 0, length, seed=self._random) - self.size // 2
        positions = ops.arange(length)[None, :]
        return ops.logical_and(positions >= first, positions < first + self.size)
