"""A training that takes a second: images of class 0 are dark and of class 1 light, with noise."""

import contextlib
import functools
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from core.settings import Model, Training
from trainer import batch_norm, hardware, model, optimization
from trainer.summary import DataSummary

SIZE = 8
MODEL = Model(variant="cifar", input_size=SIZE, width=0.1, normalization="batch", dropout=0.1)
SUMMARY = DataSummary(("dark", "light"), (32, 32), (128.0,) * 3, (3000.0,) * 3, SIZE)


def recipe(**changes):
    return Training(**{"epochs": 4, "batch_size": 16, "precision": "float32", "seed": 3, **changes})


# What two trainings in float64 that ought to be the same may differ by. Measured were 3e-13 at most (two workers
# against one process, weights, momentums and losses, with and without AVX-512); in float32 it is 1e-5 and more.
SAME = 1e-9


@contextlib.contextmanager
def in_float64():
    """Networks made inside compute and train in float64, also where the product says float32 for good.

    In float32 the result of a training depends on the order of its sums, which is another for every processor, number
    of threads and batch size, and every step makes more of the difference: no bound holds everywhere. In float64
    there is `SAME`.
    """
    build, orthogonalized = model.build, optimization.orthogonalized

    def build_in_float64(*arguments, **options):
        return keras.models.clone_model(build(*arguments, **options), clone_function=_in_float64)

    floatx = keras.config.floatx()
    keras.config.set_floatx("float64")  # of losses and metrics
    try:
        with (
            mock.patch.object(model, "build", build_in_float64),
            mock.patch.object(optimization, "orthogonalized", lambda matrix, _: orthogonalized(matrix, "float64")),
            # With this floatx Keras would count in int64, while its random numbers stay int32.
            mock.patch.object(keras.ops, "arange", functools.partial(keras.ops.arange, dtype="int32")),
        ):
            yield
    finally:
        keras.config.set_floatx(floatx)


def _in_float64(layer):
    """A new layer like this one, in float64."""
    config = layer.get_config() | {"dtype": "float64"}
    if isinstance(layer, batch_norm.FusedBatchNormalization) and hardware.workers() == 1:
        # TensorFlow's fused operation has no float64. Synchronized over workers the layer does not use it.
        return keras.layers.BatchNormalization.from_config(config)
    return type(layer).from_config(config)


def write_examples(file, count):
    """Images of class 0 are dark and of class 1 light, with noise."""
    random = np.random.default_rng(count)
    with tf.io.TFRecordWriter(str(file), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for number in range(count):
            pixels = random.integers(0, 128, SIZE * SIZE * 3) + 127 * (number % 2)
            values = {
                "image_raw": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[pixels.astype(np.uint8).tobytes()])
                ),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString())
    return [str(file)]
