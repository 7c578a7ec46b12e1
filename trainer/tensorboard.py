"""What TensorBoard shows of a training: curves, the graph, the confusion matrix and some predictions.

`tf.summary.scalar` and its kin need the tensorboard package, which training should not. So the records are made
here, in the older form of the Summary protocol buffer, which TensorBoard reads as well.
"""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from trainer import figures
from trainer.summary import DataSummary

Summary = tf.compat.v1.Summary
Value = Summary.Value

SAMPLES = 32  # images on the picture of predictions
MOST_CLASSES = 50  # with curves of their own
CLASS_METRICS = ("recall", "precision", "f1")


class Scalars(keras.callbacks.Callback):
    """Writes the records for TensorBoard: runs "train" and "validation" with the same tags, so curves overlay.

    On the validation split also "epoch/macro_f1", "epoch/lowest_class_recall", and "recall/<class>",
    "precision/<class>" and "f1/<class>", names that TensorBoard sorts below those of the whole. Of more than 50
    classes the 50 with the fewest training examples get curves: those are the first to suffer, and the choice is the
    same in every epoch and every run on the same data. A value that does not exist (see `metrics.by_class`) leaves a
    gap.

    Records of epochs before this process are written at once, so a run that went on shows all of its epochs.
    """

    def __init__(self, directory: pathlib.Path, records: list[dict], summary: DataSummary) -> None:
        """
        Args:
            directory: of the training's TensorBoard files.
            records: see `callbacks.Records`, which adds to them.
            summary: of the classes.
        """
        super().__init__()
        self._records = records
        self._written = 0
        tags = class_tags(summary.class_names)
        rarest = sorted(range(len(tags)), key=lambda label: summary.class_counts[label])[:MOST_CLASSES]
        self._tags = {label: tags[label] for label in rarest}
        self._writers = {
            "": tf.summary.create_file_writer(str(directory / "train")),
            "val_": tf.summary.create_file_writer(str(directory / "validation")),
        }
        self._write_new()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write_new()

    def _write_new(self) -> None:
        for record in self._records[self._written :]:
            for prefix, writer in self._writers.items():
                values = {f"epoch/{name}": record[prefix + name] for name in ("loss", "accuracy")}
                if prefix:
                    values |= self._class_values(record)
                else:
                    values |= {f"epoch/{name}": record[name] for name in ("learning_rate", "images_per_second")}
                with writer.as_default():
                    _write(record["epoch"], *(Value(tag=tag, simple_value=value) for tag, value in values.items()))
                writer.flush()
        self._written = len(self._records)

    def _class_values(self, record: dict) -> dict[str, float]:
        lowest = min((recall for recall in record["val_recall"] if recall is not None), default=0.0)
        values = {"epoch/macro_f1": record["val_macro_f1"], "epoch/lowest_class_recall": lowest}
        for name in CLASS_METRICS:
            for label, tag in self._tags.items():
                if (value := record[f"val_{name}"][label]) is not None:
                    values[f"{name}/{tag}"] = value
        return values


def class_tags(class_names: Sequence[str]) -> list[str]:
    """The names as parts of tags, in the same order.

    As in TensorFlow's summary operations everything but letters, digits, "-", "_" and "." becomes "_"; so does "/",
    with which TensorBoard makes groups. A name that thereby meets another one gets its label appended.
    """
    tags: dict[str, None] = {}
    for label, name in enumerate(class_names):
        tag = re.sub(r"[^-\w.]", "_", name)
        while tag in tags:
            tag += f"_{label}"
        tags[tag] = None
    return list(tags)


def write_validation(
    directory: pathlib.Path, model: keras.Model, dataset: tf.data.Dataset, summary: DataSummary, step: int
) -> None:
    """Adds the graph of the network, and how it does on the validation images as two pictures.

    Args:
        directory: of the training's TensorBoard files.
        model: from uint8 images to logits.
        dataset: `input.evaluation_dataset`.
        summary: for the class names.
        step: to file the pictures under, the number of the last epoch.
    """
    classes = len(summary.class_names)
    confusion = np.zeros([classes, classes], np.int64)
    samples: list[tuple[np.ndarray, int, np.ndarray]] = []
    # Some of every batch, because examples from folders come class by class.
    share = math.ceil(SAMPLES / max(1, int(dataset.cardinality())))
    for images, labels in dataset:
        probabilities = tf.nn.softmax(model.predict_on_batch(images)).numpy()
        np.add.at(confusion, (labels.numpy(), probabilities.argmax(axis=1)), 1)
        chosen = np.unique(np.linspace(0, len(labels) - 1, share).astype(int))
        samples += zip(images.numpy()[chosen], labels.numpy()[chosen], probabilities[chosen], strict=True)

    forward = tf.function(model).get_concrete_function(tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8))
    pictures = {
        "confusion matrix": figures.confusion_matrix(confusion, summary.class_names),
        "predictions": figures.predictions(samples[:SAMPLES], summary.class_names),
    }
    with tf.summary.create_file_writer(str(directory / "validation")).as_default(step=step):
        tf.summary.graph(forward.graph)
        for name, png in pictures.items():
            _write(step, Value(tag=f"validation/{name}", image=Summary.Image(encoded_image_string=png)))


def _write(step: int, *values: tf.compat.v1.Summary.Value) -> None:
    """Writes to the default writer."""
    tf.summary.experimental.write_raw_pb(Summary(value=values).SerializeToString(), step)
