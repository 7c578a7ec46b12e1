"""A training that takes a second: images of class 0 are dark and of class 1 light, with noise."""

import numpy as np
import tensorflow as tf

from core.settings import Model, Training
from trainer.summary import DataSummary

SIZE = 8
MODEL = Model(variant="cifar", input_size=SIZE, width=0.1, normalization="batch", dropout=0.1)
SUMMARY = DataSummary(("dark", "light"), (32, 32), (128.0,) * 3, (3000.0,) * 3, SIZE)


def recipe(**changes):
    return Training(**{"epochs": 4, "batch_size": 16, "precision": "float32", "seed": 3, **changes})


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
