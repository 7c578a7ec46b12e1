"""What each idea of a recipe is worth: the recipe with one of them changed at a time, judged on the validation split.

    python -m benchmarks.ablation [--preset NAME|FILE] [--set GROUP.KEY=VALUE] [--data SOURCE] [--seeds 1 2 3]
        [--epochs N] [--images N] [--only TEXT] [--json FILE]

The test split has no part in it. Processor time instead of time by the clock, which other work hardly changes.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time

from benchmarks import training  # first: it chooses the backend

# isort: split

import keras

from benchmarks import arrays, machine, report
from core import settings
from core.errors import UserError

# What is changed -> the settings for it.
CHANGES = {
    "SGD for all kernels": ["training.muon=0"],
    "SGD and no normalization, rate 0.05": [
        "training.muon=0", "model.normalization=none", "training.learning_rate=0.05",
    ],
    "no mirrored training images": ["training.flip=false"],
    "no shifts": ["training.shift=0"],
    "cutout of 8": ["training.cutout=8"],
    "no label smoothing": ["training.label_smoothing=0"],
    "batches of 512, rates x 1.4": [
        "training.batch_size=512", "training.learning_rate=0.57", "training.muon=0.042",
    ],
    "poolings after 2, 3 and 5": ["model.pools=[2, 3, 5]"],
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Trains every variant once for each seed, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="cifar10-fast")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="GROUP.KEY=VALUE")
    parser.add_argument("--data", default="shapes10", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help="of train and validation together, at most")
    parser.add_argument("--only", help="changes whose name has this in it")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    changes = {"the recipe": [], **{name: sets for name, sets in CHANGES.items() if (asked.only or "") in name}}
    try:
        variants = {
            name: settings.load(asked.preset, [*asked.overrides, *sets], **{"training.epochs": asked.epochs})
            for name, sets in changes.items()
        }
        recipe = variants["the recipe"]
        data = arrays.load(asked.data, asked.images, recipe.data.validation_share)
    except UserError as problem:
        parser.error(str(problem))
    result = {
        "benchmark": "ablation",
        "machine": machine.describe(),
        "backend": keras.backend.backend(),
        "preset": asked.preset,
        "data": pathlib.Path(asked.data).name,
        "settings": recipe.model_dump(mode="json", include={"model", "training"}),
        "images": {name: len(getattr(data, name)) for name in ("train", "validation")},
        "changes": changes,
        "runs": {name: [] for name in changes},
    }
    for seed in asked.seeds:  # seeds outside, so that a slow hour of the machine meets all variants
        for name, variant in variants.items():
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
            started = time.process_time()
            run = training.train(variant, data, seed, test=False)
            run["processor_seconds"] = time.process_time() - started
            result["runs"][name].append(run)
        result["tables"] = [table(result)]
        if asked.json:
            asked.json.write_text(json.dumps(result, indent=1))
    report.show(result)


def table(result: dict) -> dict[str, object]:
    """A line for each change: accuracy, what it does to it, whether beyond chance, and to the processor time.

    The difference is the mean of those of the same seed, with its standard error.
    """
    base = result["runs"]["the recipe"]
    rows = []
    for name, runs in result["runs"].items():
        accuracies = [100 * run["epochs"][-1]["val_accuracy"] for run in runs]
        pairs = list(zip(runs, base, strict=True))
        differences = [
            100 * (run["epochs"][-1]["val_accuracy"] - other["epochs"][-1]["val_accuracy"]) for run, other in pairs
        ]
        cost = statistics.median(run["processor_seconds"] / other["processor_seconds"] for run, other in pairs)
        spread = f" ± {statistics.stdev(differences) / len(differences) ** 0.5:.2f}" if len(differences) > 1 else ""
        difference = "" if runs is base else f"{statistics.fmean(differences):+.2f}{spread}"
        rows.append([name, f"{statistics.fmean(accuracies):.2f} %", difference, f"{cost:.2f}"])
    epochs, seeds = result["settings"]["training"]["epochs"], len(base)
    return {
        "title": f"{result['preset']} on {result['data']}, {epochs} epochs, {seeds} seeds, {result['backend']}",
        "columns": ["changed", "validation", "difference", "processor time"],
        "rows": rows,
    }


if __name__ == "__main__":
    main()
