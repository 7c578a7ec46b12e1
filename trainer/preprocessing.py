"""What Transform does to the raw examples: decode once, keep plain pixels, measure the training split.

Transform finds `preprocessing_fn` by its dotted path and runs its full passes over the analysed split, which is the
training split alone.

Both measurements are vocabularies with frequencies, since that is how TFT turns a full pass into a file of the
transform graph, where `summary.read_summary` finds it. So nothing constant is repeated in the examples. Both are
whole numbers, so a repeated run gives the same statistics whatever batches Beam makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf
import tensorflow_transform as tft

from core.images import colour
from trainer import features, images, summary
from trainer.summary import CHANNELS, VALUES


def preprocessing_fn(inputs: Mapping[str, tf.Tensor], custom_config: Mapping) -> dict[str, tf.Tensor]:
    """Decodes the images, and counts classes and pixel values.

    Args:
        inputs: `image` string (PNG or JPEG), `label` int64 (0 to 999,999), `class_name` string, each [batch] or
            [batch, 1]. Further features are ignored.
        custom_config: {"preprocessing": settings.Preprocessing as a dict, "background": the colour of margins, see
            settings.Data}.

    Returns:
        `image_raw` string [batch] of image_size * image_size * 3 uint8 values each, and `label` int64 [batch].
    """
    size = custom_config["preprocessing"]["image_size"]
    fit = images.Fit(custom_config["preprocessing"]["fit"], colour(custom_config["background"]))
    image, label, class_name = (
        tf.reshape(inputs[name], [-1]) for name in (features.IMAGE, features.LABEL, features.CLASS_NAME)
    )

    def each(function: Callable[[tf.Tensor], tf.Tensor], dtype: tf.DType) -> tf.Tensor:
        return tf.map_fn(
            lambda encoded: function(images.decode(encoded, size, fit=fit)), image, fn_output_signature=dtype
        )

    # Two loops, since TFT runs the one to analyse and the other to transform.
    _count_classes(label, class_name)
    _count_values(each(_histogram, tf.int32))
    # Bytes, because float32 would be 4 times the size, and resized to 227 for the network 200 times.
    raw = each(images.to_bytes, tf.string)
    return {features.PIXELS: raw, features.LABEL: label}


def _count_classes(label: tf.Tensor, class_name: tf.Tensor) -> None:
    """Adds the file of classes to the transform graph."""
    classes = tf.strings.join([tf.strings.as_string(label, width=6, fill="0"), class_name], separator=" ")
    tft.vocabulary(classes, vocab_filename=summary.CLASSES, store_frequency=True)


def _count_values(histograms: tf.Tensor) -> None:
    """Adds the sum of the histograms [batch, channels * 256] to the transform graph."""
    names = [f"{channel} {value}" for channel in range(CHANNELS) for value in range(VALUES)]
    counts = tf.cast(tf.reduce_sum(histograms, axis=0), tf.float32)  # TFT adds up the batches in float64
    tft.vocabulary(tf.constant(names), weights=counts, vocab_filename=summary.HISTOGRAM, store_frequency=True)


def _histogram(pixels: tf.Tensor) -> tf.Tensor:
    """How often each value occurs in each channel of one image: int32 [channels * 256]."""
    bins = tf.cast(pixels, tf.int32) + VALUES * tf.range(CHANNELS)
    return tf.math.bincount(tf.reshape(bins, [-1]), minlength=CHANNELS * VALUES, maxlength=CHANNELS * VALUES)
