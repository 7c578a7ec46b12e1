"""Figures of classification results, for TensorBoard and for papers. Drawn without pyplot and its global state.

They are as wide as one column of a paper and stay legible in print: 7 to 8 points, and colours that the colour-blind
can tell apart (Okabe and Ito 2008) or one hue that turns darker. Text is never taken for TeX.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from core.text import plain

COLUMN, PAGE = 3.4, 7.0  # inches: the width of one column, and of the text of a page
DPI = 200  # of PNG
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6B6B6B"
SMALL, SMALLER, TINY = 7, 5.8, 4  # points; print shows nothing smaller
LONGEST_NAME = 24  # characters
# What DejaVu Sans lacks is taken from the first of these that is installed.
OTHER_FONTS = (
    *("Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans Devanagari"),
    *("Arial Unicode MS", "Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Malgun Gothic", "Noto Emoji"),
)


@contextlib.contextmanager
def style() -> Iterator[None]:
    """How figures are drawn and saved inside of this."""
    installed = set(font_manager.get_font_names())
    chosen: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *(name for name in OTHER_FONTS if name in installed)],
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "hatch.linewidth": 0.6,
        "text.parse_math": False,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "alexnet",  # the same figure is the same file
    }
    with matplotlib.rc_context(chosen), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        yield


def save(figure: Figure, form: str) -> bytes:
    """The figure as a file.

    Args:
        figure: drawn inside of `style`.
        form: "png" or "svg".
    """
    file = io.BytesIO()
    dated = {"Date": None} if form == "svg" else None
    with style():
        figure.savefig(file, format=form, dpi=DPI, metadata=dated)
    return file.getvalue()


def name(text: object, longest: int = LONGEST_NAME) -> str:
    """A class name as it can be shown: on one line, and not too long."""
    text = plain(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> bytes:
    """How often each class was taken for each other, as a PNG file; the arguments of `draw_confusion_matrix`."""
    return save(draw_confusion_matrix(counts, class_names), "png")


def draw_confusion_matrix(counts: np.ndarray, class_names: Sequence[str], percent: bool = False) -> Figure:
    """How often each class was taken for each other.

    With so many classes that numbers cannot be read, there are none; with more still, labels stand for the names.

    Args:
        counts: int [true class, predicted class].
        class_names: of both axes.
        percent: write shares of the true class into the cells instead of counts.
    """
    counts = np.asarray(counts)
    classes = len(class_names)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = share if percent else counts
    texts = [["" if not n else f"{100 * n:.1f}"[:4] if percent else str(n) for n in line] for line in shown.tolist()]
    names = [name(text) for text in class_names]
    margin = 0.5 + 0.055 * max(map(len, names))  # inches beside the cells
    side = min(max(COLUMN - margin, 0.24 * classes), PAGE - margin)
    points = 72 * side / classes  # of a cell
    labels = min(SMALL, 0.85 * points)
    numbers = min(SMALL, 0.85 * points / (0.64 * max(len(text) for line in texts for text in line)))
    with style():
        figure = Figure(figsize=(side + margin, side + margin + 0.35), layout="constrained")
        axes = figure.subplots()
        # The root makes rare mistakes visible.
        picture = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        axes.set(xlabel="predicted", ylabel="true")
        axes.spines[:].set_visible(True)
        axes.tick_params(length=2 if labels >= TINY else 3)
        if labels >= TINY:
            axes.set_xticks(range(classes), names, rotation=90, fontsize=labels)
            axes.set_yticks(range(classes), names, fontsize=labels)
        else:
            axes.set(xlabel="predicted (label)", ylabel="true (label)")
        if numbers >= TINY:
            for (row, column), value in np.ndenumerate(share):
                colour = "white" if value > 0.4 else "black"
                axes.text(column, row, texts[row][column], ha="center", va="center", color=colour, fontsize=numbers)
        bar = figure.colorbar(picture, location="top", shrink=0.8, aspect=40, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
        bar.ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        what = ", in %" if percent else "; in the cells: examples"
        bar.set_label("share of the true class" + (what if axes.texts else ""), size=SMALL)
        bar.outline.set_linewidth(0.4)
    return figure


def predictions(samples: Sequence[tuple], class_names: Sequence[str]) -> bytes:
    """Some images with what the network takes them for.

    Args:
        samples: of (image uint8 [size, size, 3], label, probabilities float [classes]), at least one.
        class_names: of the labels.

    Returns:
        a PNG file.
    """
    pictures = []
    for image, label, probabilities in samples:
        guess = int(np.argmax(probabilities))
        pictures.append((image, class_names[label], class_names[guess], float(probabilities[guess])))
    return save(draw_pictures(pictures, columns=8), "png")


def draw_pictures(pictures: Sequence[tuple[np.ndarray, str, str, float]], columns: int = 4) -> Figure:
    """Images, each above its true class, and what it was taken for with which probability.

    Args:
        pictures: of (image uint8 [height, width, 3], true class, predicted class, its probability), at least one.
        columns: side by side.
    """
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    side = COLUMN / 4
    with style():
        layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        figure = Figure(figsize=(columns * side, rows * (side + 0.12)), layout=layout)
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for cell in cells:
            cell.axis("off")
        for cell, (image, true, predicted, probability) in zip(cells, pictures, strict=False):
            cell.imshow(image, interpolation="none")  # the pixels as they are, also when it is enlarged
            right = true == predicted
            mark, colour = ("✓", GREEN) if right else ("✗", VERMILLION)
            texts = ((f"is {name(true, 16)}", "black"), (f"{mark} {name(predicted, 11)} {probability:.0%}", colour))
            for line, (text, shade) in enumerate(texts):
                cell.annotate(
                    text,
                    (0.5, 0),
                    (0, -1 - 7 * line),
                    xycoords="axes fraction",
                    textcoords="offset points",
                    ha="center",
                    va="top",
                    color=shade,
                    fontsize=SMALLER,
                )
    return figure
