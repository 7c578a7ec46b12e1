"""Recall, precision and F1 of every class on the validation split. Pure Keras: runs on any Keras backend."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops


class ClassCounts(keras.metrics.Metric):
    """For each class, how many examples were recognised, are of it, and were taken for it.

    These are the diagonal and the two margins of the confusion matrix, all that recall, precision and F1 need: 3
    numbers a class, where the matrix of 1,000 classes has a million. They are float32 as Keras' own counts, which is
    exact up to 16,777,216 examples a class, and add up over the replicas of a distribution strategy.
    """

    def __init__(self, classes: int, name: str = "class_counts", **kwargs: object) -> None:
        super().__init__(name=name, **kwargs)
        self.classes = classes
        self._state = self.add_variable([3, classes], "zeros", dtype="float32", name="counts")

    def update_state(
        self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor, sample_weight: keras.KerasTensor | None = None
    ) -> None:
        """Counts labels [batch] against logits or probabilities [batch, classes]; weights are not taken."""
        true = ops.one_hot(ops.cast(ops.reshape(y_true, [-1]), "int32"), self.classes, dtype="float32")
        predicted = ops.one_hot(ops.argmax(y_pred, axis=-1), self.classes, dtype="float32")
        counts = [ops.sum(part, axis=0) for part in (true * predicted, true, predicted)]
        self._state.assign_add(ops.stack(counts))

    def result(self) -> dict:
        """Nothing, so that Keras' logs stay plain numbers; `counts` has them."""
        return {}

    def counts(self) -> np.ndarray:
        """int64 [3, classes]: recognised, true, predicted."""
        return np.rint(ops.convert_to_numpy(self._state)).astype(np.int64)

    def get_config(self) -> dict:
        return {**super().get_config(), "classes": self.classes}


class Learner(keras.Sequential):
    """A stack of layers that counts its answers by class in the pass that validates it, and not while it trains."""

    def __init__(self, layers: list[keras.Layer | keras.KerasTensor], classes: int) -> None:
        super().__init__(layers)
        self.class_counts = ClassCounts(classes)

    def compute_loss(
        self,
        x: keras.KerasTensor | None = None,
        y: keras.KerasTensor | None = None,
        y_pred: keras.KerasTensor | None = None,
        sample_weight: keras.KerasTensor | None = None,
        training: bool = True,
    ) -> keras.KerasTensor:
        """Keras' own; the one step that all backends share and that knows whether it trains."""
        if not training:
            self.class_counts.update_state(y, y_pred)
        return super().compute_loss(x, y, y_pred, sample_weight, training)


def by_class(counts: np.ndarray) -> dict[str, list[float | None]]:
    """Recall, precision and F1 by label, to six digits.

    Args:
        counts: int [3, classes], see `ClassCounts.counts`.

    Returns:
        {"recall", "precision", "f1"}. A number that does not exist is None: the recall of a class without examples,
        the precision of one that is never predicted, the F1 of one that is neither.
    """
    recognised, true, predicted = counts
    parts = {"recall": (recognised, true), "precision": (recognised, predicted)}
    parts["f1"] = 2 * recognised, true + predicted  # the harmonic mean of both; 0 where nothing was recognised
    return {
        name: [round(float(part / whole), 6) if whole else None for part, whole in zip(*pair, strict=True)]
        for name, pair in parts.items()
    }


def macro_f1(f1: list[float | None]) -> float:
    """The mean of the F1 that exist (scikit-learn's); 0 if none does."""
    known = [value for value in f1 if value is not None]
    return sum(known) / max(len(known), 1)
