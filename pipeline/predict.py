"""Predictions of a pushed model for image files."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

from components import images
from pipeline.errors import UserError

BATCH = 64


def predict(paths: Sequence[str], model: pathlib.Path) -> list[dict]:
    """Classifies image files.

    Args:
        paths: of images of any size, PNG or JPEG or what Pillow reads.
        model: a SavedModel as the pipeline pushes it.

    Returns:
        For each path {"path", "class_name", "probability", "probabilities"}.

    Raises:
        UserError: a file is no image, or the model is none of ours.
    """
    contents = [read(path) for path in paths]
    with quiet():
        import tensorflow as tf

        try:
            signature = tf.saved_model.load(str(model)).signatures["serving_default"]
        except (OSError, KeyError):
            raise UserError(f"{model} is not a model that this pipeline exported.") from None
    (argument,) = signature.structured_input_signature[1]
    found = []
    for start in range(0, len(contents), BATCH):
        answer = signature(**{argument: tf.constant(contents[start : start + BATCH])})
        rows = zip(
            paths[start : start + BATCH],
            answer["class_name"].numpy(),
            answer["class_id"].numpy(),
            answer["probabilities"].numpy(),
            strict=True,
        )
        for path, name, label, probabilities in rows:
            found.append(
                {
                    "path": path,
                    "class_name": name.decode(),
                    "probability": float(probabilities[label]),
                    "probabilities": [float(p) for p in probabilities],
                }
            )
    return found


def read(path: str) -> bytes:
    """The image file as the PNG or JPEG bytes that the model takes. Raises UserError."""
    try:
        return images.check(pathlib.Path(path).read_bytes())[0]
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}.") from None
    except images.BadImage as problem:
        raise UserError(f"{path} is no image that can be read: {problem}.") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """TensorFlow's native code greets on standard error before it can be told not to."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    saved = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
