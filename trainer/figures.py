"""Pictures for TensorBoard, as PNG files. Drawn without pyplot, so without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

MOST_NUMBERED_CLASSES = 25  # with more, numbers in the cells cannot be read


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> bytes:
    """How often each class was taken for each other.

    Args:
        counts: int [true class, predicted class].
        class_names: of both axes.

    Returns:
        a PNG file.
    """
    classes = len(class_names)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3 + 0.55 * classes, 16)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="viridis", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix (colour: share of the true class)")
    axes.set_xticks(range(classes), class_names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), class_names)
    if classes <= MOST_NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "black" if share[row, column] > 0.6 else "white"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    return _png(figure)


def predictions(samples: Sequence[tuple], class_names: Sequence[str]) -> bytes:
    """Some images with what the network takes them for.

    Args:
        samples: of (image uint8 [size, size, 3], label, probabilities float [classes]), at least one.
        class_names: of the labels.

    Returns:
        a PNG file.
    """
    columns = min(8, len(samples))
    rows = math.ceil(len(samples) / columns)
    figure = Figure(figsize=(1.5 * columns, 1.9 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.axis("off")
    for cell, (image, label, probabilities) in zip(cells, samples, strict=False):
        guess = int(np.argmax(probabilities))
        cell.imshow(image)
        verdict = "right" if guess == label else f"is {class_names[label]}"
        title = f"{class_names[guess]} {probabilities[guess]:.0%}\n{verdict}"
        cell.set_title(title, fontsize=8, color="black" if guess == label else "tab:red")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
