"""From an encoded image to pixels: the one path that ingest, preprocessing and serving share.

Training sees what `preprocessing.py` stored, a user's request goes through `export.py`. Both call `decode`, so the
network meets the same pixels in both places; and what ingest keeps, `open_rgb` has opened.
"""

from __future__ import annotations

import tensorflow as tf

from trainer.summary import CHANNELS

PNG = b"\x89PNG\r\n\x1a\n"  # how each begins
Colour = tuple[int, int, int]


def open_rgb(encoded: tf.Tensor) -> tf.Tensor:
    """One encoded image, a PNG or JPEG of any size, grey, palette or colour: uint8 [height, width, 3].

    Transparency is dropped. Raises tf.errors.InvalidArgumentError where eager: it is damaged.
    """
    return tf.io.decode_png(encoded, channels=CHANNELS)  # takes JPEG too, and knows its rank, unlike decode_image


def decode(encoded: tf.Tensor, size: int, background: Colour | None = None) -> tf.Tensor:
    """Pixels of one encoded image.

    Args:
        encoded: string scalar, a PNG or JPEG of any size: grey, palette or colour.
        size: side in pixels of the result. Another size or shape is resized, with antialiasing, aspect ratio not
            kept; an image that fits already keeps its exact values.
        background: RGB, seen through what is transparent, mixed as `core.images.over` does it; None where ingest
            has done that.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    pixels = open_rgb(encoded) if background is None else _over(encoded, background)
    fits = tf.reduce_all(tf.shape(pixels)[:2] == size)
    pixels = tf.cond(fits, lambda: pixels, lambda: _resize(pixels, size))
    return tf.ensure_shape(pixels, [size, size, CHANNELS])


def decode_batch(encoded: tf.Tensor, size: int, background: Colour | None = None) -> tf.Tensor:
    """`decode` for string [batch]: uint8 [batch, size, size, 3]."""
    spec = tf.TensorSpec([size, size, CHANNELS], tf.uint8)
    return tf.map_fn(lambda image: decode(image, size, background), encoded, fn_output_signature=spec)


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


def _resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    resized = tf.image.resize(pixels, [size, size], method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
