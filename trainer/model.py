"""AlexNet, top to bottom.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks (2012), and a variant
of the same shape for small images, like those of cuda-convnet. Pure Keras: runs on any Keras backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
from keras import layers, ops

if TYPE_CHECKING:
    from pipeline.settings import Model


def build(
    settings: Model,
    num_classes: int,
    image_size: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    variance: Sequence[float] = (1.0, 1.0, 1.0),
) -> keras.Model:
    """A new network with random weights, in the global dtype policy but for its float32 ends.

    Args:
        settings: variant, input size, width, normalization, groups, dropout.
        num_classes: number of outputs.
        image_size: side in pixels of the images it is given; resized to settings.input_size inside.
        mean: of each colour channel over the training images, in pixels 0 to 255.
        variance: likewise.

    Returns:
        A model from uint8 [batch, image_size, image_size, 3] to logits, float32 [batch, num_classes].
    """
    body = {"paper": _paper, "cifar": _cifar}[settings.variant]
    image = keras.Input([image_size, image_size, 3], dtype="uint8", name="image")
    x = layers.Normalization(mean=mean, variance=variance, dtype="float32", name="normalize")(image)
    if image_size != settings.input_size:
        x = layers.Resizing(settings.input_size, settings.input_size, dtype="float32", name="resize")(x)
    x = body(_Parts(settings), x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="alexnet")


def _paper(parts: _Parts, x: keras.KerasTensor) -> keras.KerasTensor:
    """As published. The shapes are those of 227 x 227 pixels and width 1."""
    x = parts.convolution(x, "conv1", 96, kernel=11, strides=4, padding="valid")  # 55 x 55 x 96
    x = parts.response_normalization(x, "norm1")
    x = parts.pooling(x, "pool1", padding="valid")  # 27 x 27 x 96
    x = parts.convolution(x, "conv2", 256, kernel=5, grouped=True)  # 27 x 27 x 256
    x = parts.response_normalization(x, "norm2")
    x = parts.pooling(x, "pool2", padding="valid")  # 13 x 13 x 256
    x = parts.convolution(x, "conv3", 384, kernel=3)  # 13 x 13 x 384
    x = parts.convolution(x, "conv4", 384, kernel=3, grouped=True)  # 13 x 13 x 384
    x = parts.convolution(x, "conv5", 256, kernel=3, grouped=True)  # 13 x 13 x 256
    x = parts.pooling(x, "pool5", padding="valid")  # 6 x 6 x 256
    x = layers.Flatten(name="flatten")(x)
    x = parts.hidden(x, "fc6", 4096)
    return parts.hidden(x, "fc7", 4096)


def _cifar(parts: _Parts, x: keras.KerasTensor) -> keras.KerasTensor:
    """The same five convolutions and two hidden layers, for small images: nothing is lost at the first layer."""
    x = parts.convolution(x, "conv1", 96, kernel=3)  # 32 x 32 x 96
    x = parts.response_normalization(x, "norm1")
    x = parts.pooling(x, "pool1", padding="same")  # 16 x 16 x 96
    x = parts.convolution(x, "conv2", 256, kernel=3, grouped=True)  # 16 x 16 x 256
    x = parts.response_normalization(x, "norm2")
    x = parts.pooling(x, "pool2", padding="same")  # 8 x 8 x 256
    x = parts.convolution(x, "conv3", 384, kernel=3)  # 8 x 8 x 384
    x = parts.convolution(x, "conv4", 384, kernel=3, grouped=True)  # 8 x 8 x 384
    x = parts.convolution(x, "conv5", 256, kernel=3, grouped=True)  # 8 x 8 x 256
    x = parts.pooling(x, "pool5", padding="same")  # 4 x 4 x 256
    x = layers.Flatten(name="flatten")(x)
    x = parts.hidden(x, "fc6", 512)
    return parts.hidden(x, "fc7", 512)


class _Parts:
    """The building blocks, as the settings want them."""

    def __init__(self, settings: Model) -> None:
        self._settings = settings

    def convolution(
        self,
        x: keras.KerasTensor,
        name: str,
        filters: int,
        kernel: int,
        strides: int = 1,
        padding: str = "same",
        grouped: bool = False,
    ) -> keras.KerasTensor:
        """Convolution and ReLU; `grouped` where the paper splits the channels over its two GPUs."""
        batch_norm = self._settings.normalization == "batch"
        x = layers.Conv2D(
            self._scaled(filters),
            kernel,
            strides=strides,
            padding=padding,
            groups=self._settings.groups if grouped else 1,
            use_bias=not batch_norm,
            kernel_initializer="he_normal",  # the paper's N(0, 0.01) with biases of 1 learns far slower
            name=name,
        )(x)
        return self._activation(x, name)

    def hidden(self, x: keras.KerasTensor, name: str, units: int) -> keras.KerasTensor:
        """Dense layer, ReLU, dropout."""
        batch_norm = self._settings.normalization == "batch"
        units = self._scaled(units)
        x = layers.Dense(units, use_bias=not batch_norm, kernel_initializer="he_normal", name=name)(x)
        x = self._activation(x, name)
        return layers.Dropout(self._settings.dropout, name=f"{name}_dropout")(x)

    def response_normalization(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """The paper's normalization across channels, if that is the one in use."""
        return LocalResponseNormalization(name=name)(x) if self._settings.normalization == "lrn" else x

    def pooling(self, x: keras.KerasTensor, name: str, padding: str) -> keras.KerasTensor:
        """Overlapping max pooling, 3 x 3 in steps of 2."""
        return layers.MaxPooling2D(3, strides=2, padding=padding, name=name)(x)

    def _activation(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if self._settings.normalization == "batch":
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def _scaled(self, count: int) -> int:
        """`count` times the width, a multiple of 8: even for two groups, and what matrix units like."""
        return max(8, 8 * round(count * self._settings.width / 8))


@keras.saving.register_keras_serializable(package="alexnet")
class LocalResponseNormalization(layers.Layer):
    """Divides each value by a power of the energy in its neighbouring channels (section 3.3 of the paper).

        b[i] = a[i] / (k + alpha * sum of a[j]^2 over the n channels j around i) ^ beta

    Channels are last. Beyond the first and last channel there is nothing to add. As in the paper alpha multiplies
    the sum, not the mean as in Caffe and PyTorch. Computed in float32, returned in the input's dtype.
    """

    def __init__(self, n: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.n, self.k, self.alpha, self.beta = n, k, alpha, beta

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        channels, half = inputs.shape[-1], self.n // 2
        values = ops.cast(inputs, "float32")
        padding = [[0, 0]] * (len(inputs.shape) - 1) + [[half, half]]
        squares = ops.pad(ops.square(values), padding)
        energy = sum(squares[..., shift : shift + channels] for shift in range(2 * half + 1))
        return ops.cast(values * ops.power(self.k + self.alpha * energy, -self.beta), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "n": self.n, "k": self.k, "alpha": self.alpha, "beta": self.beta}
