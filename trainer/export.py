"""From a trained network to a SavedModel that needs none of this code."""

from __future__ import annotations

import json
import pathlib
import shutil

import keras
import tensorflow as tf

from trainer import features, images, views
from trainer.summary import DataSummary

KERAS_FILE = "assets.extra/model.keras"  # inside the SavedModel; TF Serving ignores the folder


def export(
    model: keras.Model,
    summary: DataSummary,
    directory: str | pathlib.Path,
    view_count: int = 1,
    background: images.Colour = (255, 255, 255),
    temperature: float = 1.0,
    fit: images.Fit = images.STRETCHED,
) -> None:
    """Writes the network as a SavedModel with two signatures.

    `serving_default`, for users: `images` string [batch], encoded PNG or JPEG of any size, grey or colour, also
    transparent -> `probabilities` float32 [batch, classes], `class_id` int64 [batch], `class_name` string [batch].

    `serving_examples`, for TFMA: `examples` string [batch], serialized tf.Examples with the raw feature `image` ->
    `probabilities` alone, so that TFMA takes it for the prediction.

    Both decode, fit and resize as the training data was (`images.decode`), and do what is needed beyond that inside
    the network. In `assets.extra/` lie the Keras file, whose logits know no temperature, `classes.json`, a list of
    the class names by label, and `calibration.json`, {"temperature": float}.

    Args:
        model: from uint8 [batch, size, size, 3] to logits.
        summary: of the data that it was trained on.
        directory: of the SavedModel; replaced in one step, so that no half model is ever there.
        view_count: answer with the mean of the logits of so many views of an image (`views.seen`).
        background: RGB, seen through the transparent parts of a PNG.
        temperature: what the logits are divided by, see `calibration.temperature`.
        fit: what is done with pictures of another shape than a square.
    """
    directory = pathlib.Path(directory)
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)

    archive = keras.export.ExportArchive()
    archive.track(model)
    names = tf.constant(summary.class_names)

    def probabilities(encoded: tf.Tensor) -> tf.Tensor:
        pixels = images.decode_batch(encoded, summary.image_size, background, fit)
        logits = model(tf.concat(views.seen(pixels, view_count), axis=0), training=False)
        return tf.nn.softmax(tf.add_n(tf.split(logits, view_count)) / (view_count * temperature))

    def serve_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = probabilities(images)
        class_id = tf.argmax(scores, axis=1)
        return {"probabilities": scores, "class_id": class_id, "class_name": tf.gather(names, class_id)}

    def serve_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {features.IMAGE: tf.io.FixedLenFeature([], tf.string)})
        return {"probabilities": probabilities(parsed[features.IMAGE])}

    archive.add_endpoint("serving_default", serve_images, [tf.TensorSpec([None], tf.string, "images")])
    archive.add_endpoint(
        features.EVALUATION_SIGNATURE, serve_examples, [tf.TensorSpec([None], tf.string, "examples")]
    )
    archive.write_out(str(partial), verbose=False)
    (partial / KERAS_FILE).parent.mkdir(exist_ok=True)
    model.save(partial / KERAS_FILE)
    (partial / features.CLASSES_FILE).write_text(json.dumps(summary.class_names))
    (partial / features.CALIBRATION_FILE).write_text(json.dumps({"temperature": temperature}))

    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
