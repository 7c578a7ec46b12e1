"""What looking for weak slices costs, how often it errs, and whether it finds a group that was made hard.

    python -m benchmarks.weak_slices [--seeds N] [--whole] [--workdir DIR] [--json FILE]

Simulated predictions of classes with a recall of 80 to 99 %, and of features that go along with the class and with
each other; half of the features are numbers. `--whole` also goes the whole way: drawn shapes as files, of two sizes,
of which the test split's small dark stars are exposed twice, with a dark picture of another class; then a run of the
pipeline, whose report should name them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image

from benchmarks import machine, report
from components import derived_features, shapes
from core import images, processes
from core.workdir import Workdir
from review import weak_slices

SMALLEST = 30  # examples of a slice, as evaluation.smallest_slice
SIZES = ((10_000, 30, 10), (10_000, 7, 10), (1_000_000, 10, 1_000))  # examples, features, classes
GROUPS = (0.5, 0.7, 0.8)  # of a hidden group the share that is right
LARGE = 48  # pixels of the side of large drawings; small ones have 32
SPOILED = "star"
DARK = 64  # of the mean luma, as `derived_features.BRIGHTNESS` has it


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints tables; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--workdir", default=None, help="of the whole way; default: a folder that is removed")
    parser.add_argument("--json", default=None)
    asked = parser.parse_args(arguments)
    about = machine.describe()
    tables = [costs(), errors(asked.seeds), deriving()]
    if asked.whole:
        with tempfile.TemporaryDirectory() as folder:
            tables.append(whole(pathlib.Path(folder), asked.workdir or str(pathlib.Path(folder, "workdir"))))
    result = {"benchmark": "weak_slices", "machine": about, "seeds": asked.seeds, "tables": tables}
    report.show(result)
    if asked.json:
        pathlib.Path(asked.json).write_text(json.dumps(result, indent=1))


def simulate(
    seed: int, count: int, features: int, classes: int, group: float | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Predictions as `predictions.read` gives them, and the hidden group: feature -> value; empty without one.

    Args:
        seed: of everything that is drawn.
        count: examples.
        features: columns; those with an odd number are numbers.
        classes: how many.
        group: share that is right of one class's examples with certain values of the first and the third feature.
    """
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, count)
    shared = random.normal(size=(2, count))  # what features have in common
    table = pd.DataFrame(
        {"id": np.char.mod("%07d", np.arange(count)), "label": label, "class_name": np.char.mod("class %d", label)}
    )
    for number in range(features):
        of_class, weights = random.normal(0, 0.5, classes), random.normal(size=2)
        value = of_class[label] + weights @ shared + random.normal(size=count)
        quartile = np.digitize(value, np.quantile(value, [0.25, 0.5, 0.75]))
        table[f"feature {number}"] = value if number % 2 else np.char.mod("value %d", quartile)
    right = random.random(count) < random.uniform(0.8, 0.99, classes)[label]
    hidden = {}
    if group is not None:
        hidden = {"class_name": "class 1", "feature 0": "value 0", "feature 2": "value 0"}
        inside = np.logical_and.reduce([table[name] == value for name, value in hidden.items()])
        right[inside] = random.random(int(inside.sum())) < group
    table["predicted"] = np.where(right, label, (label + 1) % classes)
    table["probability"] = random.random(count)
    return table, hidden


def costs() -> dict[str, Any]:
    """Seconds of processor time of one search."""
    weak_slices.search(simulate(0, 1000, 3, 3)[0], SMALLEST)  # loads what it needs
    rows = []
    for count, features, classes in SIZES:
        table, _ = simulate(1, count, features, classes)
        start = time.process_time()
        found = weak_slices.search(table, SMALLEST)
        seconds = time.process_time() - start
        rows.append([f"{count:,}", f"{features}", f"{classes:,}", f"{found.looked_at:,}", f"{seconds:.2f}"])
    return {
        "title": "A search",
        "columns": ["examples", "features", "classes", "slices looked at", "seconds of processor time"],
        "rows": rows,
    }


def errors(seeds: int) -> dict[str, Any]:
    """How often something is named where there is nothing, and a hidden group first where there is one.

    A group of fewer than SMALLEST examples cannot be found; such seeds are left out.
    """
    rows = []
    for group in (None, *GROUPS):
        tried, first, others, sizes = 0, 0, 0, []
        for seed in range(seeds):
            table, hidden = simulate(seed, 10_000, 7, 10, group)
            if hidden:
                size = int(np.logical_and.reduce([table[name] == value for name, value in hidden.items()]).sum())
                if size < SMALLEST:
                    continue
                sizes.append(size)
            names = [dict(zip(s.features, s.values, strict=True)) for s in weak_slices.search(table, SMALLEST).slices]
            tried += 1
            first += bool(names) and names[0] == hidden
            others += any(name != hidden for name in names)
        what = f"{group:.0%} right in a group of {min(sizes)} to {max(sizes)}" if sizes else "no hidden group"
        rows.append([what, f"{tried}", f"{first}" if sizes else "", f"{others}"])
    return {
        "title": "10,000 examples, 7 features, 10 classes",
        "columns": ["what", "seeds", "the group is named first", "something else is named"],
        "rows": rows,
    }


def deriving() -> dict[str, Any]:
    """Microseconds of processor time for the features of one picture."""
    random = np.random.default_rng(0)
    rows = []
    for side, times in ((32, 2000), (256, 300), (3464, 3)):
        pixels = random.integers(0, 256, (side, side, 3)).astype(np.uint8)
        encoded = images.encode(pixels)
        luma = np.asarray(PIL.Image.fromarray(pixels).convert("L"), np.float32)
        step = derived_features.step_of(side, side)

        def ours() -> None:
            derived_features.sharpness_of(luma, step)  # noqa: B023  called at once
            derived_features.hue_of(pixels[::step, ::step])  # noqa: B023

        cost = [microseconds(each, times) for each in (lambda: derived_features.derive(encoded), ours)]  # noqa: B023
        rows.append([f"{side} × {side}", *(f"{value:,.0f}" for value in cost)])
    return {
        "title": "Derived features of a picture in PNG, microseconds of processor time",
        "columns": ["pixels", "all, decoding included", "of them sharpness and hue"],
        "rows": rows,
    }


def microseconds(function: Any, times: int) -> float:
    """Of processor time for a call, after one that is not counted."""
    function()
    start = time.process_time()
    for _ in range(times):
        function()
    return 1e6 * (time.process_time() - start) / times


def whole(folder: pathlib.Path, workdir: str) -> dict[str, Any]:
    """The weak slices in the report of a run on drawings of which the small dark stars of the test split are hard."""
    spoiled = write_drawings(folder / "drawings", 12_000, 6_000)
    command = processes.module(
        "pipeline.cli", "run", "--preset", "shapes10", "--data", str(folder / "drawings"), "--workdir", workdir,
        "--set", "gates.min_accuracy=0", "--set", "gates.min_class_recall=0",
    )  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr)
    part = Workdir(workdir).results()[-1]["evaluation"]
    found = part["weak_slices"]
    rows = [
        [
            " × ".join(row["values"]),
            f"{row['count']:,}",
            f"{row['accuracy']:.1%}",
            f"{row['rest_accuracy']:.1%}",
            "<0.001" if row["p"] < 0.001 else f"{row['p']:.3f}",
        ]
        for row in found["rows"]
    ]
    return {
        "title": f"A whole run on drawings, {spoiled} small dark {SPOILED}s of the test split exposed twice; test "
        f"accuracy {part['accuracy']:.1%}, {found['looked_at']:,} slices looked at",
        "columns": ["weak slice", "n", "accuracy", "rest", "p"],
        "rows": rows or [["none", "", "", "", ""]],
    }


def write_drawings(folder: pathlib.Path, train: int, test: int) -> int:
    """Drawn shapes as PNG files, folder/train|test/CLASS/NUMBER.png, every other one large; how many were spoiled."""
    spoiled = 0
    for split, count in (("train", train), ("test", test)):
        pictures, labels = shapes.draw(range(count), split)
        luma = np.array([np.asarray(PIL.Image.fromarray(each).convert("L")).mean() for each in pictures])
        # Every ten drawings hold each class once, so that tens are large or small.
        small = np.arange(count) // 10 % 2 == 0
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            name = shapes.CLASSES[label]
            if split == "test" and name == SPOILED and small[number] and luma[number] < DARK:
                others = np.flatnonzero((labels != label) & (luma < DARK))
                other = pictures[others[number % len(others)]]
                picture = ((picture.astype(int) + other) // 2).astype(np.uint8)
                spoiled += 1
            image = PIL.Image.fromarray(picture)
            if not small[number]:
                image = image.resize((LARGE, LARGE), PIL.Image.Resampling.BICUBIC)
            path = folder / split / name / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, compress_level=1)
    return spoiled


if __name__ == "__main__":
    main()
