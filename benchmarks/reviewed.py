"""What a reviewer asks of the presets: how honest their probabilities are, and how they bear a worse camera.

    python -m benchmarks.reviewed [--presets NAME ...] [--seeds N ...] [--data SOURCE] [--data-dir DIR]
                                  [--harmed N] [--json FILE]

Whole runs of the pipeline, of which nothing is kept: the numbers are those of their results, on the test split.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import machine, report
from core import processes
from core.workdir import Workdir
from pipeline.commands.robustness import KINDS

COLUMNS = [
    "preset",
    "seed",
    "accuracy",
    "temperature",
    "calibration error before",
    "after",
    "perfect, by chance",
    "loss before",
    "after",
    "accuracy, harmed",
    "worst harm",
]


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints a table; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reviewed", description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["shapes10"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--data", default=None, help="of the preset, if it is left out")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--harmed", type=int, default=0, help="test examples that are harmed; 0: all")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    about = machine.describe()
    found = []
    for preset in asked.presets:
        options = ["--preset", preset]
        options += ["--data", asked.data] if asked.data else []
        options += ["--data-dir", asked.data_dir] if asked.data_dir else []
        options += ["--set", f"evaluation.corrupted_examples={asked.harmed}"]
        with tempfile.TemporaryDirectory() as folder:  # one for all seeds: the data is made ready once
            for seed in asked.seeds:
                found.append({"preset": preset, "seed": seed, **measure(options, seed, folder)})
                print(found[-1], file=sys.stderr, flush=True)
                result = summary(about, found)
                if asked.json:
                    asked.json.write_text(json.dumps(result, indent=1))
    report.show(result)


def measure(options: list[str], seed: int, folder: str) -> dict[str, Any]:
    """The numbers of a run.

    Args:
        options: of `alexnet run`.
        seed: of the training.
        folder: the working directory.

    Raises:
        RuntimeError: the run failed.
    """
    changes = ["--set", f"training.seed={seed}", "--set", "training.checkpoint=false"]
    changes += ["--set", f"evaluation.corruptions=[{','.join(KINDS)}]"]
    command = processes.module("pipeline.cli", "run", *options, *changes, "--to", "Evaluator", "--workdir", folder)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
    part = Workdir(folder).find(None, evaluated=True)["evaluation"]
    before, harm = part["uncalibrated"] or {"temperature": 1.0, **part}, part["corruptions"]
    worst = min(harm["kinds"], key=lambda row: row["accuracy"])
    return {
        "accuracy": part["accuracy"],
        "temperature": before["temperature"],
        "error_before": before["calibration_error"],
        "error": part["calibration_error"],
        "by_chance": part["calibration_error_by_chance"],
        "loss_before": before["loss"],
        "loss": part["loss"],
        "test": part["count"],
        "harmed": harm["accuracy"],
        "worst": worst["kind"],
        "worst_accuracy": worst["accuracy"],
    }


def summary(about: dict, found: list[dict]) -> dict[str, object]:
    """The result, see `benchmarks.report`."""
    rows = [
        [
            run["preset"],
            str(run["seed"]),
            f"{run['accuracy']:.2%}",
            f"{run['temperature']:.3f}",
            f"{run['error_before']:.2%}",
            f"{run['error']:.2%}",
            f"{run['by_chance']:.2%}" if run.get("by_chance") is not None else "",
            f"{run['loss_before']:.4f}",
            f"{run['loss']:.4f}",
            f"{run['harmed']:.2%}",
            f"{run['worst']} {run['worst_accuracy']:.1%}",
        ]
        for run in found
    ]
    table = {
        "title": "expected calibration error (15 bins), cross-entropy in nats, mean accuracy on harmed pictures",
        "columns": COLUMNS,
        "rows": rows,
    }
    return {"benchmark": "reviewed", "machine": about, "runs": found, "tables": [table]}


if __name__ == "__main__":
    main()
