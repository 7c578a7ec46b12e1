"""AlexNet, top to bottom.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks (2012), and a variant
of the same shape for small images, like those of cuda-convnet. Pure Keras: runs on any Keras backend.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import keras
from keras import layers, ops

from trainer.batch_norm import FusedBatchNormalization

if TYPE_CHECKING:
    from core.settings import Model


def build(
    settings: Model,
    num_classes: int,
    image_size: int,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    variance: Sequence[float] = (1.0, 1.0, 1.0),
    to_train: bool = False,
) -> keras.Model:
    """A new network with random weights, in the global dtype policy but for its float32 ends.

    Args:
        settings: variant, input size, width, pools, normalization, groups, dropout.
        num_classes: number of outputs.
        image_size: side in pixels of the images it is given; resized to settings.input_size inside.
        mean: of each colour channel over the training images, in pixels 0 to 255.
        variance: likewise.
        to_train: use a batch normalization that trains faster on TensorFlow. The weights are the same, but the
            saved network needs this code, where that of `to_train=False` needs Keras alone (but for lrn).

    Returns:
        A model from uint8 [batch, image_size, image_size, 3] to logits, float32 [batch, num_classes].
    """
    body = {"paper": _paper, "cifar": _cifar}[settings.variant]
    image = keras.Input([image_size, image_size, 3], dtype="uint8", name="image")
    x = layers.Normalization(mean=mean, variance=variance, dtype="float32", name="normalize")(image)
    if image_size != settings.input_size:
        x = layers.Resizing(settings.input_size, settings.input_size, dtype="float32", name="resize")(x)
    x = body(_Parts(settings, FusedBatchNormalization if to_train else layers.BatchNormalization), x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="alexnet")


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside compute as the policy says; afterwards the global policy is what it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _paper(parts: _Parts, x: keras.KerasTensor) -> keras.KerasTensor:
    """As published. The shapes are those of 227 x 227 pixels, width 1 and pools 1, 2 and 5."""
    x = parts.convolution(x, 1, 96, kernel=11, strides=4, padding="valid", respond=True)  # 27 x 27 x 96
    x = parts.convolution(x, 2, 256, kernel=5, grouped=True, respond=True)  # 13 x 13 x 256
    x = parts.convolution(x, 3, 384, kernel=3)  # 13 x 13 x 384
    x = parts.convolution(x, 4, 384, kernel=3, grouped=True)  # 13 x 13 x 384
    x = parts.convolution(x, 5, 256, kernel=3, grouped=True)  # 6 x 6 x 256
    x = layers.Flatten(name="flatten")(x)
    x = parts.hidden(x, "fc6", 4096)
    return parts.hidden(x, "fc7", 4096)


def _cifar(parts: _Parts, x: keras.KerasTensor) -> keras.KerasTensor:
    """The same five convolutions and two hidden layers, for small images: nothing is lost at the first layer."""
    x = parts.convolution(x, 1, 96, kernel=3, respond=True)  # 16 x 16 x 96
    x = parts.convolution(x, 2, 256, kernel=3, grouped=True, respond=True)  # 8 x 8 x 256
    x = parts.convolution(x, 3, 384, kernel=3)  # 8 x 8 x 384
    x = parts.convolution(x, 4, 384, kernel=3, grouped=True)  # 8 x 8 x 384
    x = parts.convolution(x, 5, 256, kernel=3, grouped=True)  # 4 x 4 x 256
    x = layers.Flatten(name="flatten")(x)
    x = parts.hidden(x, "fc6", 768)
    return parts.hidden(x, "fc7", 768)


class _Parts:
    """The building blocks, as the settings want them."""

    def __init__(self, settings: Model, normalization: type[layers.BatchNormalization]) -> None:
        self._settings = settings
        self._normalization = normalization
        self._batch_norm = settings.normalization == "batch"

    def convolution(
        self,
        x: keras.KerasTensor,
        number: int,
        filters: int,
        kernel: int,
        strides: int = 1,
        padding: str = "same",
        grouped: bool = False,
        respond: bool = False,
    ) -> keras.KerasTensor:
        """Convolution, normalization, ReLU and, where the settings want it, overlapping max pooling.

        Args:
            x: [batch, height, width, channels].
            number: of the layer, 1 to 5.
            filters: at width 1.
            kernel: side.
            strides: of the convolution.
            padding: of the convolution.
            grouped: where the paper splits the channels over its two GPUs.
            respond: where the paper normalizes responses.
        """
        x = layers.Conv2D(
            self._scaled(filters),
            kernel,
            strides=strides,
            padding=padding,
            groups=self._settings.groups if grouped else 1,
            use_bias=not self._batch_norm,
            kernel_initializer="he_normal",  # the paper's N(0, 0.01) with biases of 1 learns far slower
            name=f"conv{number}",
        )(x)
        pooling = None
        if number in self._settings.pools:
            # The paper loses what does not fill a window; small images have nothing to lose.
            edge = "valid" if self._settings.variant == "paper" else "same"
            pooling = layers.MaxPooling2D(3, strides=2, padding=edge, name=f"pool{number}")
        if self._batch_norm:
            # Pooled first, a quarter of the values is left to be normalized. ReLU and a normalization with a
            # positive gain do not change which value is the largest, so little else differs.
            x = pooling(x) if pooling else x
            return self._activation(x, f"conv{number}")
        x = self._activation(x, f"conv{number}")
        if respond and self._settings.normalization == "lrn":
            x = LocalResponseNormalization(name=f"norm{number}")(x)
        return pooling(x) if pooling else x

    def hidden(self, x: keras.KerasTensor, name: str, units: int) -> keras.KerasTensor:
        """Dense layer, normalization, ReLU, dropout."""
        units = self._scaled(units)
        x = layers.Dense(units, use_bias=not self._batch_norm, kernel_initializer="he_normal", name=name)(x)
        x = self._activation(x, name)
        return layers.Dropout(self._settings.dropout, name=f"{name}_dropout")(x)

    def _activation(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if self._batch_norm:
            x = self._normalization(momentum=0.9, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def _scaled(self, count: int) -> int:
        """`count` times the width, a multiple of 16: with 88 channels oneDNN normalizes six times slower than 96."""
        return max(16, 16 * round(count * self._settings.width / 16))


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
