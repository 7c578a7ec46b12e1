"""Figures of a run for papers and READMEs. What TensorBoard shows as well is drawn in `trainer.figures`."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import optimize

from core.workdir import Workdir
from review import history as past
from review import run_report, statistics
from review.report import schema
from trainer.figures import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    SMALL,
    VERMILLION,
    draw_confusion_matrix,
    draw_pictures,
    name,
    save,
    style,
)  # fmt: skip

__all__ = ["KINDS", "draw", "draw_history", "save"]

KINDS = ("png", "svg")
PICTURES = 20  # of the worst mistakes
CLASSES = 40  # bars; of more classes the worst ones
LINES = 4  # classes that are named in the history
GREY_LINES = 60  # others that are drawn behind them


def draw(workdir: Workdir, found: Mapping) -> tuple[dict[str, Figure], dict[str, str]]:
    """All figures of a run.

    Args:
        workdir: where it is.
        found: its results.

    Returns:
        Name -> figure, and name -> why it was left out.
    """
    made, missing = {}, {}
    told, files = run_report.load(workdir, found)
    part = told.evaluation
    epochs = (found.get("history") or {}).get("epochs")
    if epochs:
        made["training_curves"] = training_curves(epochs)
    else:
        missing["training_curves"] = "the run has no record of a training"
    counts, names = np.array(part.confusion_matrix), part.class_names[: len(part.confusion_matrix)]
    made["confusion_matrix"] = draw_confusion_matrix(counts, names)
    if made["confusion_matrix"].axes[0].texts:
        made["confusion_matrix_percent"] = draw_confusion_matrix(counts, names, percent=True)
    else:
        missing["confusion_matrix_percent"] = f"with {len(names):,} classes, no number in a cell could be read"
    mistakes = sorted((p for p in told.pictures if p.kind == "mistake"), key=lambda p: -p.top[0][1])
    pictures = [
        (pixels(files[p.file]), p.true, p.predicted, p.top[0][1]) for p in mistakes[:PICTURES] if p.file in files
    ]
    if pictures:
        made["worst_mistakes"] = draw_pictures(pictures)
    else:
        missing["worst_mistakes"] = "the report holds no pictures of mistakes"
    if any(one.count for one in part.calibration):
        made["reliability"] = reliability(part)
    else:
        missing["reliability"] = "the evaluation is of a version that did not measure calibration"
    pasts = until(workdir, found)
    if len(pasts) > 1:
        made["history"] = draw_history(pasts)
    else:
        missing["history"] = "it is the first evaluation of these data"
    made["class_recall"] = class_recall(part)
    return made, missing


def until(workdir: Workdir, found: Mapping) -> list[past.Past]:
    """The evaluations of the same data up to this run's."""
    results = workdir.results()
    place = [result["run"] for result in results].index(found["run"])
    return past.collect(results[: place + 1], found["name"])[1]


def pixels(file: bytes) -> np.ndarray:
    """uint8 [height, width, 3] of an image file."""
    with PIL.Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


def training_curves(epochs: Sequence[Mapping]) -> Figure:
    """Loss and accuracy of every epoch, on the training and on the validation split."""
    numbers = [record["epoch"] for record in epochs]
    with style():
        figure = Figure(figsize=(COLUMN, 3.4), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True)
        for axes, what, label in zip(panels, ("loss", "accuracy"), ("loss (nats)", "accuracy"), strict=True):
            ends = []
            for prefix, colour, dashes, split in (("", GREY, "--", "train"), ("val_", BLUE, "-", "validation")):
                values = [record[prefix + what] for record in epochs]
                axes.plot(numbers, values, dashes, color=colour, marker="o" if len(numbers) < 30 else "")
                ends.append((values[-1], split, colour))
            label_ends(axes, numbers[-1], ends)
            axes.set_ylabel(label)
        panels[1].yaxis.set_major_formatter(percent)
        panels[1].set_xlabel("epoch")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def reliability(part: schema.Evaluation) -> Figure:
    """How often the most probable class is right, by its probability, and the share of examples with such ones."""
    bins = [one for one in part.calibration if one.count]
    confidence = np.array([one.confidence for one in bins])
    accuracy = np.array([one.accuracy for one in bins])
    ends = np.array(
        [statistics.wilson(share, one.count) for share, one in zip(accuracy.tolist(), bins, strict=True)]
    ).T
    with style():
        figure = Figure(figsize=(COLUMN, 3.9), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.plot([0, 1], [0, 1], "--", color=GREY, linewidth=0.8)
        above.errorbar(
            confidence, accuracy, np.abs(ends - accuracy), fmt="none", ecolor=BLUE, elinewidth=0.8, capsize=1.5
        )
        shares = np.array([one.count for one in bins]) / part.count
        above.scatter(confidence, accuracy, 4 + 60 * shares, color=BLUE, zorder=3)
        if part.uncalibrated:
            before = [one for one in part.uncalibrated.calibration if one.count]
            places = [one.confidence for one in before], [one.accuracy for one in before]
            sizes = [4 + 60 * one.count / part.count for one in before]
            text = f"without the temperature: error {part.uncalibrated.calibration_error:.1%}"
            above.scatter(*places, sizes, facecolors="none", edgecolors=GREY, linewidths=0.8, label=text, zorder=2)
            above.legend(loc="lower right", frameon=False, fontsize=SMALL, bbox_to_anchor=(1, 0.06))
        above.text(0.08, 0.06, "calibrated", color=GREY, va="top", size=SMALL)
        if part.calibration_error is not None:
            text = f"expected calibration error {part.calibration_error:.1%}"
            above.text(0.02, 0.97, text, transform=above.transAxes, va="top", size=SMALL)
        above.set(ylabel="share that is right", ylim=(-0.02, 1.02), xlim=(-0.02, 1.02))
        lows = np.array([one.low for one in bins])
        widths = np.array([one.high for one in bins]) - lows
        below.bar(lows, shares, widths, align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
        below.set(xlabel="probability of the most probable class", ylabel="examples")
        for axis in (above.xaxis, above.yaxis, below.yaxis):
            axis.set_major_formatter(percent)
        figure.align_ylabels()
    return figure


def class_recall(part: schema.Evaluation) -> Figure:
    """Recall of every class, or of the worst ones, with its 95 % interval, the baseline's, and whether it passed."""
    rows = part.classes[:CLASSES]
    places = np.arange(len(rows))
    recalls = np.array([row.recall for row in rows])
    ends = np.array([row.recall_interval for row in rows]).T
    with style():
        figure = Figure(figsize=(COLUMN, 0.7 + 0.17 * max(3, len(rows))), layout="constrained")
        axes = figure.subplots()
        for passed, colour, hatch in ((True, BLUE, ""), (False, VERMILLION, "////")):
            chosen = np.array([row.passed == passed for row in rows])
            label = "passed its gates" if passed else "did not"
            if chosen.any():
                axes.barh(
                    places[chosen], recalls[chosen], 0.7, color=colour, hatch=hatch, edgecolor="white",
                    linewidth=0, label=label, alpha=0.75,
                )  # fmt: skip
        axes.errorbar(
            recalls, places, xerr=np.abs(ends - recalls), fmt="none", color="black", elinewidth=0.8, capsize=1.5
        )
        before = [row.baseline_recall for row in rows]
        if any(recall is not None for recall in before):
            shares = [float("nan") if recall is None else recall for recall in before]
            axes.plot(
                shares, places, "D", color="black", markerfacecolor="white", markeredgewidth=0.8, label="baseline"
            )
        axes.set_yticks(places, [name(row.class_name) for row in rows])
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(percent)
        more = f"\nthe worst {len(rows)} of {len(part.classes):,} classes" if len(rows) < len(part.classes) else ""
        axes.set_xlabel(f"recall, with its 95 % interval{more}")
        if len(axes.get_legend_handles_labels()[0]) > 1:
            figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=SMALL, handlelength=1.2)
    return figure


def draw_history(pasts: Sequence[past.Past]) -> Figure:
    """Accuracy and recalls over the evaluations of the same data; the most telling classes are named."""
    places = np.arange(len(pasts))
    accuracy = np.array([one.accuracy for one in pasts])
    ends = np.array([one.accuracy_interval for one in pasts]).T
    courses = past.courses(pasts)
    chosen = past.telling(courses, LINES)
    shades = (VERMILLION, BLUE, GREEN, "#CC79A7")
    with style():
        figure = Figure(figsize=(COLUMN, 4.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.fill_between(places, *ends, color=BLUE, alpha=0.15, linewidth=0)
        above.plot(places, accuracy, color=BLUE)
        for blessed, pushed, mark, face, label in (
            (True, True, "^", BLUE, "pushed"),
            (True, False, "o", BLUE, "blessed"),
            (False, None, "o", "white", "not blessed"),
        ):
            shown = [k for k, one in enumerate(pasts) if one.blessed == blessed and pushed in (None, one.pushed)]
            if shown:
                above.plot(
                    shown, accuracy[shown], mark, color=BLUE, markerfacecolor=face, markersize=4.5, label=label,
                    linestyle="none",
                )  # fmt: skip
        above.legend(loc="lower right", frameon=False, fontsize=SMALL, handletextpad=0.1, borderpad=0)
        above.set_ylabel("accuracy")
        for course in [one for one in courses if one not in chosen][:GREY_LINES]:
            below.plot(places, values(course), color="#BBBBBB", linewidth=0.6)
        labels = []
        for course, shade in zip(chosen, shades, strict=False):
            below.plot(places, values(course), color=shade, marker="o", markersize=2.5)
            labels.append((course.known[-1], course.class_name, shade))
        label_ends(below, places[-1], labels)
        below.set_ylabel("recall of each class")
        marked = range(len(pasts) - 1, -1, -math.ceil(len(pasts) / 6))
        below.set_xticks(marked, [pasts[k].made[5:16].replace("T", "\n") for k in marked])
        below.set_xlabel("evaluated")
        for axes in (above, below):
            axes.yaxis.set_major_formatter(percent)
        figure.align_ylabels()
    return figure


def values(course: past.Course) -> list[float]:
    """With a gap where there is none."""
    return [float("nan") if recall is None else recall for recall in course.recalls]


def percent(share: float, place: float = 0) -> str:
    """A tick on an axis of shares."""
    return f"{100 * share:.4g}%"


def label_ends(axes: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names lines at their right end, moved apart where they would overlap; of (y, name, colour) each."""
    low, high = axes.get_ylim()
    ends = sorted(ends)
    steps = np.arange(len(ends)) * (high - low) * 0.09  # the height of a label
    places = optimize.isotonic_regression(np.array([end[0] for end in ends]) - steps).x + steps
    for place, (_, text, colour) in zip(places, ends, strict=True):
        axes.annotate(
            name(text, 14), (x, place), (4, 0), textcoords="offset points", va="center", color=colour, size=SMALL,
            annotation_clip=False,
        )  # fmt: skip
