"""Predictions of a pushed model for image files. TensorFlow is loaded when the first image asks for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import PIL.Image

from core import errors, images
from core.errors import UserError
from core.output import quiet
from core.walk import walk
from trainer import features

CLASSES = features.CLASSES_FILE
BATCH = 64
BATCH_PIXELS = 2**25  # of all images that are in memory at once, unless one alone has more


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image file that was read.

    Attributes:
        encoded: PNG or JPEG bytes for the model: the file's own where it takes them.
        image: the same, upright, in RGB.
    """

    path: str
    encoded: bytes
    image: PIL.Image.Image


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file that is no image, and why, in a sentence."""

    path: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model takes an image for.

    Attributes:
        top: the most probable classes and their probabilities, the most probable first.
        true: the class by the file's folder, if that has the name of a class.
    """

    path: str
    image: PIL.Image.Image
    top: list[tuple[str, float]]
    true: str | None

    @property
    def right(self) -> bool | None:
        """None where the true class is not known."""
        return None if self.true is None else self.true == self.top[0][0]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        name, probability = self.top[0]
        return {
            "path": self.path,
            "true_class_name": self.true,
            "class_name": name,
            "probability": probability,
            "top": [{"class_name": name, "probability": probability} for name, probability in self.top],
        }

    def row(self) -> dict[str, object]:
        """For CSV: the columns class_name_2, probability_2 and so on hold the other classes."""
        record = self.record()
        for place, other in enumerate(record.pop("top")[1:], 2):
            record |= {f"{key}_{place}": value for key, value in other.items()}
        return record


def find(arguments: Sequence[str]) -> tuple[list[str], int]:
    """The image files that are meant.

    Args:
        arguments: files, taken whatever they are called, and folders, searched for files with the suffix of an image
            format that Pillow reads; hidden files are passed over.

    Returns:
        Their paths in the order of the arguments, within a folder sorted, and how many other files there were.

    Raises:
        UserError: a path does not exist, or there is no image.
    """
    suffixes = images.suffixes()
    found: list[str] = []
    ignored = 0
    for argument in arguments:
        if not os.path.exists(argument):
            raise UserError(f"{argument} does not exist.")
        if not os.path.isdir(argument):
            found.append(argument)
            continue
        for entry in walk(argument):
            if any(part.startswith(".") for part in pathlib.PurePath(entry.path).parts):
                continue
            if not entry.problem and os.path.splitext(entry.path)[1].lower() in suffixes:
                found.append(os.path.join(argument, entry.path))
            else:
                ignored += 1
    if not found:
        raise UserError(f"There is no image in {', '.join(arguments)}; files of other kinds: {ignored:,}.")
    return found, ignored


def read(path: str) -> Picture | Unreadable:
    """Reads an image file as the ingest does; what is transparent is the model's business."""
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as problem:
        return Unreadable(path, f"{path} cannot be read: {problem.strerror}.")
    try:
        prepared = images.prepare(data)  # before TensorFlow is loaded for what is no image at all
        with quiet(), without_keras():
            from trainer.images import see

            seen = see(data, images.WHITE, prepared)
    except images.BadImage as problem:
        return Unreadable(path, f"{path} is no image that can be read: {problem}.")
    return Picture(path, seen.encoded, PIL.Image.fromarray(seen.pixels))


def _damaged(model: pathlib.Path, why: str) -> str:
    return f"{model} is damaged, or not a model that this pipeline exported: {why}; take another version."


def _class_names(file: pathlib.Path) -> list[str] | None:
    """The names of the classes by label; None if the model was pushed before it carried them. Raises UserError."""
    if not file.is_file():
        return None
    try:
        names = json.loads(file.read_bytes())
    except ValueError:
        names = None
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise UserError(_damaged(file.parents[1], f"{CLASSES} is no list of names"))
    return names


class Classifier:
    """A pushed model."""

    def __init__(self, model: pathlib.Path) -> None:
        """
        Args:
            model: a SavedModel as the pipeline pushes it. It is loaded for the first image.

        Raises:
            UserError: it is none of ours.
        """
        self.model = model
        if not (model / "saved_model.pb").is_file():
            raise UserError(f"{model} is not a model that this pipeline exported.")
        self.class_names = _class_names(model / CLASSES)
        self._signature: Any = None

    def predict(self, paths: Iterable[str], top: int) -> Iterator[Prediction | Unreadable]:
        """Classifies image files, lazily and in batches.

        Args:
            paths: of any number of files; a few of them are in memory at once.
            top: how many classes to name for each.

        Raises:
            UserError: the model is none of ours.
        """
        waiting: list[Picture | Unreadable] = []
        pixels = 0
        for path in paths:
            waiting.append(read(path))
            if isinstance(waiting[-1], Picture):
                pixels += waiting[-1].image.width * waiting[-1].image.height
            if len(waiting) == BATCH or pixels >= BATCH_PIXELS:
                yield from self._answers(waiting, top)
                waiting, pixels = [], 0
        yield from self._answers(waiting, top)

    def true_class(self, path: str) -> str | None:
        """The name of the file's folder if it is that of a class. Without class names nothing is known."""
        folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
        return folder if folder in (self.class_names or ()) else None

    def _answers(self, batch: Sequence[Picture | Unreadable], top: int) -> Iterator[Prediction | Unreadable]:
        pictures = [item for item in batch if isinstance(item, Picture)]
        answers = iter(self._ask(pictures) if pictures else [])
        for item in batch:
            if isinstance(item, Unreadable):
                yield item
                continue
            best, probabilities = next(answers)
            chosen = np.argsort(-probabilities, kind="stable")[:top].tolist()
            named = [(self._name(label, best if not rank else None), label) for rank, label in enumerate(chosen)]
            ranked = [(name, float(probabilities[label])) for name, label in named]
            yield Prediction(item.path, item.image, ranked, self.true_class(item.path))

    def _name(self, label: int, known: str | None) -> str:
        """A model that was pushed before it carried its class names says only that of its best answer."""
        return self.class_names[label] if self.class_names else known or f"class {label}"

    def _ask(self, pictures: Sequence[Picture]) -> list[tuple[str, np.ndarray]]:
        """The best class name and the probabilities of each."""
        if self._signature is None:
            self._load()
        answer = self._call([picture.encoded for picture in pictures])
        names = [name.decode() for name in answer["class_name"].numpy()]
        return list(zip(names, answer["probabilities"].numpy(), strict=True))

    def _call(self, encoded: list[bytes]) -> dict:
        import tensorflow as tf

        (argument,) = self._signature.structured_input_signature[1]
        with quiet():
            return self._signature(**{argument: tf.constant(encoded)})

    def _load(self) -> None:
        with quiet():
            with without_keras():
                import tensorflow as tf
            try:
                signature = tf.saved_model.load(str(self.model)).signatures["serving_default"]
                (argument,) = signature.structured_input_signature[1]
                outputs = signature.structured_outputs
                classes = outputs["probabilities"].shape[-1]
                complete = argument and "class_name" in outputs
            except Exception as problem:  # there is nothing that TensorFlow does not raise on damaged files
                why = errors.words(problem, str(self.model)) or _damaged(self.model, "TensorFlow cannot load it")
                raise UserError(why) from problem
        if not complete:
            raise UserError(_damaged(self.model, "it has another signature"))
        if self.class_names and classes != len(self.class_names):
            has = f"{CLASSES} names {len(self.class_names)} classes, and the network has {classes}"
            raise UserError(_damaged(self.model, has))
        self._signature = signature


@contextlib.contextmanager
def without_keras() -> Iterator[None]:
    """TensorFlow imports Keras 3 and all it needs, a fifth of its loading time, unless it is to use another one.

    A SavedModel needs none.
    """
    name = "TF_USE_LEGACY_KERAS"
    if "tensorflow" in sys.modules or name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
