"""Several views of each image, whose logits a served model averages. Pure Keras: runs on any Keras backend."""

from __future__ import annotations

import keras
from keras import ops


def seen(images: keras.KerasTensor, count: int) -> list[keras.KerasTensor]:
    """The images themselves and changed in ways that keep their class.

    As Krizhevsky et al. 2012, section 4.1, who average ten views (four corners, the centre and their mirror images);
    6 are those of airbench (Jordan 2024), which are as good on CIFAR-10 and cost less.

    Args:
        images: any dtype, [batch, height, width, channels].
        count: 1, the images; 2, also mirrored; 6, also moved by a pixel up and left, and down and right, with what
            is missing reflected in, as `augmentation.FlipAndShift` does.

    Returns:
        `count` batches of the same shape.
    """
    height, width = images.shape[1:3]
    found = [images]
    if count == 6:
        padded = ops.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
        found += [padded[:, :height, :width], padded[:, 2:, 2:]]
    return found if count == 1 else found + [ops.flip(view, axis=2) for view in found]
