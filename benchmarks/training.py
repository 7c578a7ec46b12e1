"""Accuracy and speed of a recipe from arrays, on whichever Keras backend is there: TensorFlow, JAX or PyTorch.

    python -m benchmarks.training [--preset NAME|FILE] [--set GROUP.KEY=VALUE] [--data SOURCE] [--seeds 1 2 3]
        [--epochs N] [--images N] [--test] [--peak-tflops N] [--json FILE]

Needs keras, a backend, numpy, pillow, pydantic, pyyaml and rich, nothing of TFX; KERAS_BACKEND chooses among several
backends. The network, its augmentation and the recipe are those of Trainer; the images come from memory. Time is that
of the training steps, compilation included and validation not. Recipes are chosen on the validation split; `--test`
adds the accuracy on the test split after the last epoch.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "KERAS_BACKEND" not in os.environ:
    found = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    os.environ["KERAS_BACKEND"] = found[0] if found else "tensorflow"

import keras
import numpy as np

from benchmarks import arrays, machine, report
from core import settings
from core.errors import UserError
from trainer import callbacks, model, recipe, views

TARGETS = (0.7734, 0.90, 0.93)  # validation accuracy; the first is what the projects this grew from report


def main(arguments: list[str] | None = None) -> None:
    """Trains once for each seed, and prints a table; `--json` also writes all epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default=settings.DEFAULT_PRESET)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="GROUP.KEY=VALUE")
    parser.add_argument("--data", default="shapes10", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help="of train and validation together, at most")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--peak-tflops", type=float, help="of the device, where the table has not got it")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    try:
        chosen = settings.load(asked.preset, asked.overrides, **{"training.epochs": asked.epochs})
        data = arrays.load(asked.data, asked.images, chosen.data.validation_share)
    except UserError as problem:
        parser.error(str(problem))
    about = machine.describe()
    peak = asked.peak_tflops or machine.peak_tflops(about["accelerator"])
    runs = [train(chosen, data, seed, asked.test) for seed in asked.seeds]
    result = {
        "benchmark": "training",
        "machine": about,
        "backend": keras.backend.backend(),
        "preset": asked.preset,
        "data": pathlib.Path(asked.data).name,
        "settings": chosen.model_dump(mode="json", include={"model", "training"}),
        "images": {name: len(getattr(data, name)) for name in ("train", "validation", "test")},
        "peak_tflops": peak,
        "targets": TARGETS,
        "runs": runs,
    }
    result["tables"] = [table(result)]
    report.show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


def train(chosen: settings.Settings, data: arrays.Arrays, seed: int, test: bool) -> dict[str, object]:
    """One training.

    Returns:
        seed, parameters, flops_per_image (of a training step), precision, batch_size, images_per_second (median of
        the epochs but the first, which compiles), epochs, a list of epoch, seconds (of training, since the
        beginning), images_per_second, accuracy, val_accuracy and val_loss, and if `test`, test_accuracy and, where
        the model is served with the mean over several views, served_test_accuracy.
    """
    network, learner, records, precision, batch_size = fit(chosen, data, seed)
    images = len(data.train) // batch_size * batch_size
    seconds = itertools.accumulate(images / record["images_per_second"] for record in records)
    shown = ("epoch", "images_per_second", "accuracy", "val_accuracy", "val_loss")
    epochs = [
        {"seconds": round(done, 3), **{name: record[name] for name in shown}}
        for done, record in zip(seconds, records, strict=True)
    ]
    result = {
        "seed": seed,
        "parameters": network.count_params(),
        "flops_per_image": 3 * flops(network),  # the backward pass has two products for each of the forward pass
        "precision": precision,
        "batch_size": batch_size,
        "epochs": epochs,
        "images_per_second": statistics.median(epoch["images_per_second"] for epoch in epochs[1:] or epochs),
    }
    if test:
        result["test_accuracy"] = accuracy(learner, data.test, 1, batch_size)
        if chosen.model.views > 1:
            result["served_test_accuracy"] = accuracy(learner, data.test, chosen.model.views, batch_size)
    return result


def fit(
    chosen: settings.Settings, data: arrays.Arrays, seed: int
) -> tuple[keras.Model, keras.Model, list[dict], str, int]:
    """The trained network, the same behind its augmentation, the epochs' records, precision and batch size."""
    training = chosen.training.model_copy(update={"seed": seed})
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    precision, jit, batch_size, steps, steps_per_call = _plan(training, len(data.train))
    with model.dtype_policy(precision):
        network = model.build(
            chosen.model, data.classes, data.train.images.shape[1], *data.statistics(), to_train=True
        )
        learner = recipe.learner(network, training, steps, jit, steps_per_call)
    images = steps * batch_size
    records: list[dict] = []
    kept = callbacks.Records(None, images, records, learner.class_counts)
    learner.fit(
        data.train.images[:images],  # whole batches only, so that nothing is compiled twice
        data.train.labels[:images],
        batch_size=batch_size,
        epochs=training.epochs,
        validation_data=(data.validation.images, data.validation.labels),
        callbacks=[callbacks.Progress(training.epochs, steps, batch_size), kept, Line(seed, records)],
        verbose=0,
    )
    return network, learner, records, precision, batch_size


def accuracy(network: keras.Model, split: arrays.Split, view_count: int, batch_size: int) -> float:
    """Of the mean of the logits over so many views of each image (`views.seen`)."""
    answers = np.argmax(logits(network, split.images, view_count, batch_size), axis=1)
    return float(np.mean(answers == split.labels))


def logits(network: keras.Model, images: np.ndarray, view_count: int, batch_size: int) -> np.ndarray:
    """Float [n, classes]: the mean over so many views of each image."""
    seen = views.seen(images, view_count)
    return sum(network.predict(np.asarray(view), batch_size, verbose=0) for view in seen) / view_count


class Line(keras.callbacks.Callback):
    """Prints a line for each epoch."""

    def __init__(self, seed: int, records: list[dict]) -> None:
        super().__init__()
        self._seed, self._records = seed, records

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        record = self._records[-1]
        print(
            f"seed {self._seed}, epoch {record['epoch']}: {record['images_per_second']:,.0f} images/s, "
            f"loss {record['loss']:.3f}, validation {100 * record['val_accuracy']:.2f} %",
            file=sys.stderr,
            flush=True,
        )


def flops(network: keras.Model) -> int:
    """Multiplications and additions of one image's forward pass, in convolutions and dense layers."""
    found = 0
    for layer in network.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            places = math.prod(layer.output.shape[1:-1])
            found += 2 * places * math.prod(layer.kernel.shape)
    return found


def seconds_to(epochs: list[dict], accuracy: float) -> float | None:
    """Training time up to the first epoch whose validation accuracy reaches `accuracy`; None if none does."""
    return next((epoch["seconds"] for epoch in epochs if epoch["val_accuracy"] >= accuracy), None)


def peak_share(run: dict, peak: float | None) -> float | None:
    """What part of the device's peak arithmetic the training uses; None where the peak is not known."""
    return run["images_per_second"] * run["flops_per_image"] / (peak * 1e12) if peak else None


def table(result: dict) -> dict[str, object]:
    """A line for each seed, and mean and standard deviation of several. Times are in seconds of training."""
    about = result["machine"]
    device = about["accelerator"] or f"{about['cores']} cores"
    runs = result["runs"]
    columns = {
        "images/s": ([run["images_per_second"] for run in runs], ",.0f"),
        **{
            f"to {100 * target:g} %": ([seconds_to(run["epochs"], target) for run in runs], ".1f")
            for target in result["targets"]
        },
        "in all": ([run["epochs"][-1]["seconds"] for run in runs], ".1f"),
        "of peak": ([peak_share(run, result["peak_tflops"]) for run in runs], ".1%"),
        "validation": ([run["epochs"][-1]["val_accuracy"] for run in runs], ".2%"),
        "test": ([run.get("test_accuracy") for run in runs], ".2%"),
        "test, as served": ([run.get("served_test_accuracy") for run in runs], ".2%"),
    }
    columns = {name: column for name, column in columns.items() if any(value is not None for value in column[0])}
    rows = [
        [str(run["seed"]), *(_number(values[at], form) for values, form in columns.values())]
        for at, run in enumerate(runs)
    ]
    if len(runs) > 1:
        rows += summaries(columns)
    return {
        "title": f"{result['preset']} on {result['data']}, {result['backend']}, {device}, {runs[0]['precision']}",
        "columns": ["seed", *columns],
        "rows": rows,
    }


def summaries(columns: dict[str, tuple[list, str]]) -> list[list[str]]:
    """Lines of the mean and the standard deviation of each column's values, which are given with their form."""
    rows = []
    for name, function in (("mean", statistics.fmean), ("sd", statistics.stdev)):
        whole = [(None if None in values else function(values), form) for values, form in columns.values()]
        rows.append([name, *(_number(value, form) for value, form in whole)])
    return rows


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("%", " %")


def _plan(training: settings.Training, examples: int) -> tuple[str, bool | str, int, int, int]:
    """Precision, jit, batch size, steps in an epoch and in a call, on this machine."""
    if keras.backend.backend() == "tensorflow":
        from trainer import hardware

        plan = hardware.plan(training, examples)
        return plan.precision, plan.jit, plan.batch_size, plan.steps, plan.steps_per_call
    precision = training.precision
    if precision == "auto":
        precision = "mixed_bfloat16" if machine.accelerator() else "float32"
    batch_size = min(training.batch_size, examples)
    return precision, "auto", batch_size, examples // batch_size, 1


if __name__ == "__main__":
    main()
