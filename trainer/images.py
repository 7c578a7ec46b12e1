"""From an encoded image to pixels: the one path that preprocessing and serving share.

Training sees what `preprocessing.py` stored, a user's request goes through `export.py`. Both call `decode`, so the
network meets the same pixels in both places.
"""

from __future__ import annotations

import tensorflow as tf

from trainer.summary import CHANNELS


def decode(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Pixels of one encoded image.

    Args:
        encoded: string scalar, a PNG or JPEG of any size: grey, palette or colour. Transparency is dropped.
        size: side in pixels of the result. Another size or shape is resized, with antialiasing, aspect ratio not
            kept; an image that fits already keeps its exact values.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    pixels = tf.io.decode_png(encoded, channels=CHANNELS)  # takes JPEG too, and knows its rank, unlike decode_image
    fits = tf.reduce_all(tf.shape(pixels)[:2] == size)
    pixels = tf.cond(fits, lambda: pixels, lambda: _resize(pixels, size))
    return tf.ensure_shape(pixels, [size, size, CHANNELS])


def decode_batch(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """`decode` for string [batch]: uint8 [batch, size, size, 3]."""
    spec = tf.TensorSpec([size, size, CHANNELS], tf.uint8)
    return tf.map_fn(lambda image: decode(image, size), encoded, fn_output_signature=spec)


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


def _resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    resized = tf.image.resize(pixels, [size, size], method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
