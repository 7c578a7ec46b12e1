"""One number that makes the probabilities honest: the temperature of Guo et al. 2017."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
from keras import ops
from scipy import optimize, special

from trainer import views

BOUNDS = 0.05, 20.0  # of the temperature


def served_logits(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]], view_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What an exported model would say before its temperature.

    Args:
        model: from uint8 images to logits.
        batches: of (images uint8 [batch, height, width, channels], labels int [batch]).
        view_count: see `views.seen`.

    Returns:
        Logits float32 [n, classes] and labels int64 [n].
    """
    logits, labels = [], []
    for images, batch_labels in batches:
        seen = [model.predict_on_batch(view) for view in views.seen(ops.convert_to_tensor(images), view_count)]
        logits.append(np.mean(seen, axis=0))
        labels.append(np.asarray(batch_labels, np.int64))
    return np.concatenate(logits), np.concatenate(labels)


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What logits are divided by so that their softmax predicts the labels best, in cross-entropy.

    As Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (ICML 2017), section 4.2: it changes
    no answer, has one parameter, and so needs few examples. Of n examples, each counts as one of its class with n + 1
    parts of n + 2, after Platt, Probabilistic Outputs for Support Vector Machines (1999): where none is wrong the
    best temperature would be 0 otherwise, and every probability 0 or 1.

    Args:
        logits: float [n, classes], of examples that the network was not trained on.
        labels: int [n].

    Returns:
        The temperature, within BOUNDS: below 1 for a network that is too modest, above for one that is too sure; 1
        without examples, and for a single class.
    """
    count, classes = logits.shape
    if not count or classes < 2:
        return 1.0
    targets = np.full([count, classes], 1 / ((count + 2) * (classes - 1)))
    targets[np.arange(count), labels] = (count + 1) / (count + 2)
    logits = logits.astype(np.float64)
    expected = np.sum(targets * logits)

    def loss(logarithm: float) -> float:
        scale = np.exp(-logarithm)
        return float(np.sum(special.logsumexp(scale * logits, axis=1)) - scale * expected)

    found = optimize.minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))
