"""Accuracy and time of whole runs of the pipeline, read from their results.

    python -m benchmarks.runs [--workdir FOLDER] [--runs ID [ID ...]] [--json FILE]

For recipes that train for hours, where the run that made the model is measurement enough. To be called on the machine
that they ran on, since that is what it writes beside them. Runs of one preset make one table, a line for each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import statistics

from benchmarks import training  # first: it chooses the backend

# isort: split

from benchmarks import machine, report
from core.errors import UserError
from core.workdir import Workdir


def main(arguments: list[str] | None = None) -> None:
    """Prints a table; `--json` also writes all epochs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="workdir")
    parser.add_argument(
        "--runs", nargs="+", default=[None], metavar="ID", help="or its beginning; default: the latest"
    )
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    try:
        found = [Workdir(asked.workdir).find(run_id, evaluated=True) for run_id in asked.runs]
        result = summarise(found)
    except UserError as problem:
        parser.error(str(problem))
    report.show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


def summarise(found: list[dict]) -> dict[str, object]:
    """The results of runs (results.json) in the form of a benchmark.

    Raises:
        UserError: they are of several presets, or Trainer did not train in one of them.
    """
    presets = {result["preset"] for result in found}
    if len(presets) > 1:
        raise UserError(
            f"The runs are of several presets ({', '.join(sorted(presets))}): give those of one at a time."
        )
    for result in found:
        if result["nodes"]["Trainer"]["state"] != "done":
            raise UserError(f"Run {result['run']} took its model from the cache: give the run that trained it.")
    first = found[0]
    made = {
        "benchmark": "runs",
        "machine": {**machine.describe(), "date": first["started"][:10]},
        "preset": first["preset"],
        "settings": first["recipe"],
        "images": {split: sum(counts.values()) for split, counts in first["data"]["counts"].items()},
        "targets": training.TARGETS,
        "runs": [_run(result) for result in found],
    }
    del made["machine"]["load"]  # that of now, not of then
    made["tables"] = [table(made)]
    return made


def _run(result: dict) -> dict[str, object]:
    records = result["history"]["epochs"]
    recipe = result["recipe"]["training"]
    examples = sum(result["data"]["counts"]["train"].values())
    images = examples // recipe["batch_size"] * recipe["batch_size"]  # in an epoch
    seconds = itertools.accumulate(images / record["images_per_second"] for record in records)
    shown = ("epoch", "images_per_second", "accuracy", "val_accuracy", "val_loss")
    return {
        "seed": recipe["seed"],
        "epochs": [
            {"seconds": round(done, 3), **{name: record[name] for name in shown}}
            for done, record in zip(seconds, records, strict=True)
        ],
        "images_per_second": statistics.median(record["images_per_second"] for record in records),
        "trainer_seconds": result["nodes"]["Trainer"]["seconds"],
        "seconds": result["seconds"],
        "served_test_accuracy": result["evaluation"]["accuracy"],
    }


def table(made: dict) -> dict[str, object]:
    """A line for each run. Times in seconds: of the training steps up to an accuracy, of Trainer, of the command."""
    rows = []
    for run in made["runs"]:
        reached = [training.seconds_to(run["epochs"], target) for target in made["targets"]]
        rows.append(
            [
                str(run["seed"]),
                f"{run['images_per_second']:,.0f}",
                *("–" if seconds is None else f"{seconds:,.0f}" for seconds in reached),
                f"{run['trainer_seconds']:,.0f}",
                f"{run['seconds']:,.0f}",
                f"{run['epochs'][-1]['val_accuracy']:.2%}".replace("%", " %"),
                f"{run['served_test_accuracy']:.2%}".replace("%", " %"),
            ]
        )
    targets = [f"to {100 * target:g} %" for target in made["targets"]]
    columns = ["seed", "images/s", *targets, "Trainer", "command", "validation", "test, as served"]
    about, epochs = made["machine"], len(made["runs"][0]["epochs"])
    device = about["accelerator"] or f"{about['cores']} cores"
    return {"title": f"{made['preset']}, {epochs} epochs, {device}", "columns": columns, "rows": rows}


if __name__ == "__main__":
    main()
