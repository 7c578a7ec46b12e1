"""From an encoded image to pixels: the one path that ingest, preprocessing and serving share.

Training sees what `preprocessing.py` stored, a user's request goes through `export.py`. Both call `decode`, so the
network meets the same pixels in both places; and what ingest keeps, `open_rgb` has opened.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import PIL.Image
import tensorflow as tf

from core import images
from trainer.summary import CHANNELS

STRETCH, CROP, PAD = "stretch", "crop", "pad"
PNG = b"\x89PNG\r\n\x1a\n"  # how each begins
Colour = images.RGB


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a picture that is no square becomes the network's.

    Attributes:
        how: STRETCH, all of it, squeezed along its longer side; CROP, its central square; or PAD, all of it, between
            two margins.
        margin: RGB of these.
    """

    how: str = STRETCH
    margin: Colour = images.WHITE

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What of a picture becomes the square: left, upper, right and lower bound in its pixels, or beyond them."""
        if self.how == STRETCH:
            return 0, 0, width, height
        side = (min if self.how == CROP else max)(width, height)
        left, top = ((length - side) // 2 if self.how == CROP else (length - side) / 2 for length in (width, height))
        return left, top, left + side, top + side


STRETCHED = Fit()


@dataclasses.dataclass(frozen=True)
class Seen:
    """An image file that TensorFlow decodes.

    Attributes:
        encoded: PNG or JPEG bytes, the given ones where they need no change, see `core.images.prepare`.
        pixels: uint8 [height, width, 3], over a background where it is transparent.
        transparent: whether the background is seen anywhere.
    """

    encoded: bytes
    pixels: np.ndarray
    transparent: bool = False


def see(data: bytes, background: Colour, prepared: tuple[bytes, PIL.Image.Image] | None = None) -> Seen:
    """What the network will see of an image file of any format.

    Args:
        data: the file's bytes.
        background: as for `decode`.
        prepared: what `core.images.prepare` made of it, if that has been asked.

    Raises:
        core.images.BadImage: truncated, corrupt, or not an image.
    """
    encoded, image = prepared or images.prepare(data)
    try:
        if encoded is not data and data.startswith(PNG):  # Pillow has changed it, and looks at no checksum
            open_rgb(data)
        if not images.has_alpha(image):
            return Seen(encoded, open_rgb(encoded).numpy())
        pixels = tf.io.decode_png(encoded, channels=CHANNELS + 1).numpy()
    except tf.errors.OpError as problem:
        words = re.sub(r"^\{\{.*?\}\} ?| ?\[Op:\w+\].*$", "", problem.message, flags=re.DOTALL)
        raise images.BadImage(f"damaged, TensorFlow does not decode it ({words.strip()[:100]})") from None
    return Seen(encoded, images.over(pixels, background), bool(pixels[..., CHANNELS].min() < 255))


def open_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """One encoded image, a PNG or JPEG of any size, grey, palette or colour: uint8 [height, width, 3].

    Transparency is dropped. Raises tf.errors.InvalidArgumentError where eager: it is damaged.
    """
    return tf.io.decode_png(encoded, channels=CHANNELS)  # takes JPEG too, and knows its rank, unlike decode_image


def decode(encoded: tf.Tensor, size: int, background: Colour | None = None, fit: Fit = STRETCHED) -> tf.Tensor:
    """Pixels of one encoded image.

    Args:
        encoded: string scalar, a PNG or JPEG of any size: grey, palette or colour.
        size: side in pixels of the result. Another size is resized, with antialiasing; an image that fits already
            keeps its exact values.
        background: RGB, seen through what is transparent, mixed as `core.images.over` does it; None where ingest
            has done that.
        fit: what is done with another shape than a square.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    pixels = open_rgb(encoded) if background is None else _over(encoded, background)
    fits = tf.reduce_all(tf.shape(pixels)[:2] == size)
    pixels = tf.cond(fits, lambda: pixels, lambda: _squared(pixels, size, fit))
    return tf.ensure_shape(pixels, [size, size, CHANNELS])


def decode_batch(encoded: tf.Tensor, size: int, background: Colour | None = None, fit: Fit = STRETCHED) -> tf.Tensor:
    """`decode` for string [batch]: uint8 [batch, size, size, 3]."""
    spec = tf.TensorSpec([size, size, CHANNELS], tf.uint8)
    return tf.map_fn(lambda image: decode(image, size, background, fit), encoded, fn_output_signature=spec)


def to_bytes(pixels: tf.Tensor) -> tf.Tensor:
    """The values of a uint8 tensor in row-major order, as a string scalar.

    TensorFlow has decode_raw and no encode_raw. A serialized TensorProto ends with the raw values (tensor_content
    is the last field that is set), so its tail is what we want.
    """
    count = tf.size(pixels)
    return tf.strings.substr(tf.io.serialize_tensor(pixels), -count, count)


def from_bytes(raw: tf.Tensor, size: int) -> tf.Tensor:
    """The inverse of `to_bytes` for a batch: string [batch] to uint8 [batch, size, size, 3]."""
    return tf.reshape(tf.io.decode_raw(raw, tf.uint8), [-1, size, size, CHANNELS])


def _over(encoded: tf.Tensor, background: Colour) -> tf.Tensor:
    def mixed() -> tf.Tensor:
        pixels = tf.cast(tf.io.decode_png(encoded, channels=CHANNELS + 1), tf.int32)
        alpha = pixels[..., CHANNELS:]
        mixture = pixels[..., :CHANNELS] * alpha + tf.constant(background) * (255 - alpha)
        return tf.cast((mixture + 127) // 255, tf.uint8)

    # A JPEG has no fourth channel, and TensorFlow refuses to make one.
    return tf.cond(tf.strings.substr(encoded, 0, len(PNG)) == PNG, mixed, lambda: open_rgb(encoded))


def _squared(pixels: tf.Tensor, size: int, fit: Fit) -> tf.Tensor:
    if fit.how == STRETCH:
        return _resize(pixels, [size, size])
    height, width = tf.unstack(tf.shape(pixels)[:2])
    if fit.how == CROP:
        side = tf.minimum(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resize(pixels[top : top + side, left : left + side], [size, size])
    side = tf.maximum(height, width)
    rows, columns = (tf.maximum(1, (2 * length * size + side) // (2 * side)) for length in (height, width))
    inner = tf.cast(_resize(pixels, [rows, columns]), tf.int32) - tf.constant(fit.margin)
    top, left = (size - rows) // 2, (size - columns) // 2
    around = [[top, size - rows - top], [left, size - columns - left], [0, 0]]
    return tf.cast(tf.pad(inner, around) + tf.constant(fit.margin), tf.uint8)


def _resize(pixels: tf.Tensor, size: list) -> tf.Tensor:
    """To [rows, columns]."""
    resized = tf.image.resize(pixels, size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
