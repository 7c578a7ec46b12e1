"""What the recipes reach on a GPU within minutes: accuracy, images/s, seconds, share of the peak.

    KERAS_BACKEND=jax python -m benchmarks.gpu --data SOURCE --json FILE [--minutes 9] [--work FOLDER] [--tiny]
        [--only TEXT ...]

Needs JAX and what `benchmarks.training` needs, nothing of TensorFlow. The experiments come in the order of their
value; one that does not fit into the time left is passed over, and one that fails is told. Called again with the same
--work, it goes on where it was, and tries anew what failed only where --only asks for it. Training is by
`benchmarks.epochs`; seconds are of the training alone, compilation apart. Recipes are chosen by the validation split
with the views that the preset is served with.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks import training  # first: it chooses the backend

# isort: split

import keras
import numpy as np

from benchmarks import arrays, machine, reference, report
from core import settings
from core.errors import UserError
from trainer import augmentation, model, recipe

if TYPE_CHECKING:
    from benchmarks import epochs as loop

START = 20.0  # seconds that a new network takes to be compiled, before it is known
LAST = 0.1  # share of the epochs, the last ones, whose weights are averaged
SERVED = 6  # views
ASSUMED = 120.0  # TFLOP/s of a training, before one is measured
SEARCHED = 40.0  # seconds of training that a candidate of the search shall take
BATCHES_OF_512 = "training.batch_size=512", "training.learning_rate=0.57", "training.muon=0.042"

TINY = 128  # images
PAPER_WITH_MUON = "training.cutout=8", "model.views=6", *BATCHES_OF_512
AS_PUBLISHED = "model.normalization=lrn", "model.groups=2"

PAPER_SECONDS = 51.0  # of 10 epochs, at most: three times what their arithmetic takes at 200 TFLOP/s
BEST_SECONDS = 300.0  # of the best of the search and its teachers, at most

GROUPS = {
    "recipes": "The presets as they are, and the paper's network with Muon",
    "reference": "How hard this data is: recipes of published accuracy",
    "search": "The search for 93 %, on the validation split",
    "seeds": "The best of the search, further seeds",
    "one at a time": "Batch size, precision and pooling, one at a time",
}


class TooLong(Exception):
    """The time left does not suffice."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A preset with changes, some of which are no settings.

    Attributes:
        preset: its name.
        sets: GROUP.KEY=VALUE.
        epochs: None: as the preset has it.
        cutmix: share of the images, none in the last tenth of the training.
        distorted: likewise, see `epochs.distortion`.
        sliced: pooling by slices.
        teachers: names of experiments whose networks teach it.
    """

    preset: str
    sets: tuple[str, ...] = ()
    epochs: int | None = None
    cutmix: float = 0.0
    distorted: float = 0.0
    sliced: bool = False
    teachers: tuple[str, ...] = ()


class Bench:
    """The experiments' data, results and time."""

    def __init__(
        self, data: arrays.Arrays, result: dict, file: pathlib.Path, work: pathlib.Path, deadline: float, tiny: bool
    ) -> None:
        self.data, self.result, self.tiny = data, result, tiny
        self.whole = arrays.Split(
            np.concatenate([data.train.images, data.validation.images]),
            np.concatenate([data.train.labels, data.validation.labels]),
        )
        self._file, self._work, self._deadline = file, work, deadline

    def left(self) -> float:
        """Seconds."""
        return self._deadline - time.monotonic()

    def done(self, group: str = "") -> dict[str, dict]:
        """The experiments of a group, or of all, that came to their end."""
        every = self.result["experiments"]
        return {
            name: found for name, found in every.items() if found["state"] == "done" and group in ("", found["group"])
        }

    def do(self, name: str, group: str, experiment: Callable[[], dict]) -> None:
        """Runs an experiment that has not been done, tells and keeps what it found."""
        if name in self.done():
            return
        began = time.monotonic()
        found: dict[str, Any] = {"group": group}
        try:
            found |= {"state": "done", **experiment()}
        except TooLong as why:
            found |= {"state": "skipped", "why": str(why)}
        except Exception as problem:  # the others shall go on
            found |= {"state": "failed", "why": f"{type(problem).__name__}: {problem}"[:2000]}
            traceback.print_exc()
        found["total_seconds"] = round(time.monotonic() - began, 1)
        self.result["experiments"][name] = found
        self.save()
        keras.utils.clear_session()
        gc.collect()
        print(f"[{self.left():5.0f} s left] {name}: {_line(found)}", flush=True)

    def save(self) -> None:
        """Writes all results, twice: where they are wanted, and where a further call finds them."""
        self.result["tables"] = tables(self.result)
        for file in (self._file, self._work / "gpu.json"):
            file.write_text(json.dumps(self.result, indent=1))

    def of(self, wanted: Recipe) -> settings.Settings:
        """The recipe's; tiny ones when all shall be tiny."""
        chosen = settings.load(wanted.preset, list(wanted.sets), **{"training.epochs": wanted.epochs})
        if self.tiny:
            small = ["model.width=0.1", f"training.batch_size={TINY // 2}"]
            small += ["model.input_size=67"] if chosen.model.input_size > 32 else []
            fewer = {"training.epochs": min(chosen.training.epochs, 2)}
            chosen = settings.load(wanted.preset, [*wanted.sets, *small], **fewer)
        return chosen

    def tflops(self, preset: str | None = None) -> float:
        """TFLOP/s of the network's arithmetic, Muon and teachers left out.

        Args:
            preset: the best training of it so far; None: of the references.
        """
        runs = [run for run in self.done().values() if "tflops" in run and run["group"] != "one at a time"]
        rates = [run["tflops"] for run in runs if run.get("recipe", {}).get("preset") == preset]
        return max(rates, default=ASSUMED)

    def network(self, chosen: settings.Settings, precision: str, sliced: bool = False) -> keras.Model:
        """A new one."""
        from benchmarks import epochs as loop

        data = self.data
        with model.dtype_policy(precision):
            network = model.build(
                chosen.model, data.classes, data.train.images.shape[1], *data.statistics(), to_train=True
            )
            return loop.with_sliced_pooling(network) if sliced else network

    def train(self, name: str, wanted: Recipe, seed: int = 1, every: int = 1, test: bool = True) -> dict:
        """A training.

        Args:
            name: of the experiment; what it learns is kept under it.
            wanted: the recipe.
            seed: of weights, order and augmentation.
            every: after so many epochs it is validated, and after the last.
            test: measure with views and on the test split, too, and keep the network for its pupils.

        Raises:
            TooLong: the time left does not suffice, as the speed of other trainings or the first epochs have it.
        """
        from benchmarks import epochs as loop

        chosen = self.of(wanted)
        chosen = chosen.model_copy(update={"training": chosen.training.model_copy(update={"seed": seed})})
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        precision, _, batch_size, steps, _ = training._plan(chosen.training, len(self.data.train))
        network = self.network(chosen, precision, wanted.sliced)
        with model.dtype_policy(precision):
            learner = recipe.learner(network, chosen.training, steps)
        flops = 3 * training.flops(network)
        work = flops * steps * batch_size * (1 + len(wanted.teachers) / 3) / 1e12
        self._allow(START + chosen.training.epochs * work / self.tflops(wanted.preset))
        changes = []
        if wanted.distorted:
            changes.append(loop.distortion(wanted.distorted, 0.9))
        if wanted.cutmix:
            changes.append(loop.cutmix(wanted.cutmix, 0.9))
        task = loop.of_learner(
            learner,
            chosen.training.label_smoothing,
            change=loop.one_after_the_other(*changes) if changes else None,
            teachers=[self._teacher(teacher) for teacher in wanted.teachers],
            taught=0.8,
        )
        made = loop.Training(task, self.data.train, batch_size, chosen.training.epochs, seed)
        found = {
            "recipe": dataclasses.asdict(wanted),
            "settings": chosen.model_dump(mode="json", include={"model", "training"}),
            "seed": seed,
            "parameters": network.count_params(),
            "flops_per_image": flops,
            "precision": precision,
            "batch_size": batch_size,
            **self._run(made, batch_size, chosen.training.epochs, flops, every, self.data.validation),
        }
        if test:
            found |= self._judge(made, chosen.model.views)
            np.savez(self._kept(name), *map(np.asarray, [*made.values()[0], *made.values()[1]]))
        return found

    def reference(self, seed: int, epochs: int, **shape: Any) -> dict:
        """A training of `benchmarks.reference`'s network, on train and validation together.

        Args:
            seed: of weights, order and augmentation.
            epochs: of the training.
            **shape: of `reference.build`, and `cutout`.
        """
        from benchmarks import epochs as loop

        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        cutout = shape.pop("cutout", 0)
        if self.tiny:
            epochs, shape = min(epochs, 2), shape | {"widths": (16, 16, 16)}
        precision = training._plan(settings.Training(), len(self.whole))[0]
        batch_size = min(reference.BATCH_SIZE, len(self.whole) // (4 if self.tiny else 1))
        steps = len(self.whole) // batch_size
        with model.dtype_policy(precision):
            network = reference.build(self.data, **shape)
            optimizer = reference.optimizers(network, batch_size, steps, epochs)
        flops = 3 * training.flops(network)
        self._allow(START + epochs * flops * steps * batch_size / 1e12 / self.tflops())
        changed = [augmentation.FlipAndShift(True, 2, seed)]
        if cutout:
            changed.append(augmentation.Cutout(cutout, self.data.statistics()[0], seed + 1))
        task = loop.Task(changed, network, optimizer, reference.SMOOTHING, summed=True)
        made = loop.Training(task, self.whole, batch_size, epochs, seed)
        return {
            "seed": seed,
            "shape": {**shape, "cutout": cutout},
            "parameters": network.count_params(),
            "flops_per_image": flops,
            "precision": precision,
            "batch_size": batch_size,
            **self._run(made, batch_size, epochs, flops, epochs, None),
            "test_accuracy": made.accuracy(self.data.test),
            "served_test_accuracy": made.accuracy(self.data.test, SERVED),
        }

    def _allow(self, seconds: float) -> None:
        if seconds > self.left():
            raise TooLong(f"it would take about {seconds:.0f} s, and {max(self.left(), 0):.0f} s are left")

    def _run(
        self,
        made: loop.Training,
        batch_size: int,
        count: int,
        flops: int,
        every: int,
        validation: arrays.Split | None,
    ) -> dict:
        images = made.steps * batch_size
        told: list[dict] = []
        seconds = 0.0
        for epoch in range(count):
            about = made.epoch(epoch)
            seconds += about["seconds"]
            rate = images / about["seconds"]
            told.append(
                {
                    "epoch": epoch + 1,
                    "seconds": round(seconds, 3),
                    "images_per_second": round(rate, 1),
                    "loss": round(about["loss"], 5),
                    "accuracy": round(about["accuracy"], 5),
                }
            )
            if not np.isfinite(about["loss"]):
                raise ValueError(f"the loss became {about['loss']} in epoch {epoch + 1}")
            if validation and ((epoch + 1) % every == 0 or epoch + 1 == count):
                told[-1]["val_accuracy"] = made.accuracy(validation)
            if epoch + 1 > count * (1 - LAST):
                made.average()
            if 1 <= epoch < 4:  # the first of all also loads the kernels
                self._allow((count - epoch - 1) * about["seconds"])
        speed = statistics.median(epoch["images_per_second"] for epoch in told[1:] or told)
        return {
            "lower_seconds": round(made.lower_seconds, 2),
            "compile_seconds": round(made.compile_seconds, 2),
            "seconds": round(seconds, 3),
            "images_per_second": speed,
            "tflops": speed * flops / 1e12,
            "epochs": told,
        }

    def _judge(self, made: loop.Training, view_count: int) -> dict:
        data = self.data
        found = {
            "val_accuracy": made.accuracy(data.validation),
            "served_val_accuracy": made.accuracy(data.validation, view_count),
            "test_accuracy": made.accuracy(data.test),
            "served_test_accuracy": made.accuracy(data.test, view_count),
        }
        for name, split in (("val", data.validation), ("test", data.test)):
            found[f"mean_served_{name}_accuracy"] = made.accuracy(split, view_count, mean=True)
        return found

    def _kept(self, name: str) -> pathlib.Path:
        return self._work / ("".join(letter if letter.isalnum() else "-" for letter in name) + ".npz")

    def _teacher(self, name: str) -> loop.Teacher:
        import jax.numpy as jnp

        from benchmarks import epochs as loop

        wanted = Recipe(**self.result["experiments"][name]["recipe"])
        network = self.network(self.of(wanted), self.result["experiments"][name]["precision"], wanted.sliced)
        with np.load(self._kept(name)) as file:
            values = [jnp.asarray(file[key]) for key in file.files]
        count = len(network.trainable_variables)
        return loop.Teacher(network, values[:count], values[count:])


def main(arguments: list[str] | None = None) -> None:
    """Runs the experiments, prints a line for each and then the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes10", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--work", type=pathlib.Path, help="a folder to go on from; default: a new one")
    parser.add_argument("--only", nargs="+", default=(), metavar="TEXT", help="experiments with this in their name")
    parser.add_argument(
        "--tiny", action="store_true", help=f"small networks and {TINY} images of each split, to see that all runs"
    )
    asked = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * asked.minutes
    if keras.backend.backend() != "jax":
        parser.error(f"Keras is on {keras.backend.backend()}: set KERAS_BACKEND=jax, and install jax for the GPU")
    with contextlib.ExitStack() as stack:
        work = asked.work or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        packed, reading = work / "data.npz", None
        if not packed.exists():  # a process of its own, beside the check
            reading = subprocess.Popen([sys.executable, "-m", "benchmarks.arrays", asked.data, str(packed)])
            stack.callback(reading.kill)
        about = machine.describe()
        print(json.dumps(about), flush=True)
        began = time.monotonic()
        if not (work / "gpu.json").exists():
            check()
            print(f"The check took {time.monotonic() - began:.1f} s.", flush=True)
        if reading and reading.wait():
            parser.error(f"{asked.data} could not be read, see above")
        try:
            data = arrays.load(str(packed))
        except UserError as problem:
            parser.error(str(problem))
        if asked.tiny:
            data = few(data, TINY)
        print(f"The data was there after {time.monotonic() - began:.1f} s.", flush=True)
        result = {
            "benchmark": "gpu",
            "machine": about,
            "backend": "jax",
            "data": pathlib.Path(asked.data).name,
            "images": {name: len(getattr(data, name)) for name in ("train", "validation", "test")},
            "peak_tflops": machine.peak_tflops(about["accelerator"]),
            "targets": training.TARGETS,
            "experiments": {},
        }
        if (work / "gpu.json").exists():
            result["experiments"] = json.loads((work / "gpu.json").read_text())["experiments"]
        bench = Bench(data, result, asked.json, work, deadline, asked.tiny)
        failed = {name for name, run in bench.result["experiments"].items() if run["state"] == "failed"}
        for name, group, experiment in experiments(bench):
            if any(text in name for text in asked.only) if asked.only else name not in failed:
                bench.do(name, group, experiment)
        bench.save()
    report.show(result)


def few(data: arrays.Arrays, count: int) -> arrays.Arrays:
    """At most so many images of each split, from all over it, since folders are sorted by class."""

    def some(split: arrays.Split) -> arrays.Split:
        return split.take(np.linspace(0, len(split) - 1, min(count, len(split)), dtype=int))

    return arrays.Arrays(some(data.train), some(data.validation), some(data.test), data.classes)


def experiments(bench: Bench) -> Sequence[tuple[str, str, Callable[[], dict]]]:
    """All of them, in the order of their value: name, group, function. Later ones look at the results of earlier."""

    def of(wanted: Callable[[], Recipe], name: str, **further: Any) -> Callable[[], dict]:
        return lambda: bench.train(name, wanted(), **further)

    def plain(name: str, group: str, wanted: Recipe, **further: Any) -> tuple[str, str, Callable[[], dict]]:
        return name, group, lambda: bench.train(name, wanted, **further)

    def searched(name: str, wanted: Callable[[], Recipe]) -> tuple[str, str, Callable[[], dict]]:
        return name, "search", of(wanted, name, every=10)

    def brief(name: str, preset: str, *sets: str, sliced: bool = False) -> tuple[str, str, Callable[[], dict]]:
        return plain(name, "one at a time", Recipe(preset, sets, 3, sliced=sliced), every=3, test=False)

    def again(seed: int) -> Callable[[], dict]:
        def experiment() -> dict:
            best = chosen(bench)
            return {"of": best[0], **bench.train(f"the best, seed {seed}", best[1], seed, every=10)}

        return experiment

    return [
        ("peak", "peak", lambda: peak(bench.tiny)),
        plain("paper, 10 epochs", "recipes", Recipe("paper", epochs=10)),
        plain("cifar10-best, 64 epochs", "recipes", Recipe("cifar10-best")),
        ("airbench94, seed 1", "reference", lambda: bench.reference(1, reference.EPOCHS)),
        ("airbench94, seed 2", "reference", lambda: bench.reference(2, reference.EPOCHS)),
        searched("width 1", lambda: start(bench)),
        searched("and CutMix", lambda: on_top(bench, cutmix=0.5)),
        plain("paper with Muon, 30 epochs", "recipes", Recipe("paper", PAPER_WITH_MUON, 30)),
        searched("and poolings after 2, 4 and 5", lambda: on_top(bench, sets=("model.pools=[2, 4, 5]",))),
        searched("taught by the best two", lambda: pupil(bench, 2, 1.5)),
        ("the best, seed 2", "seeds", again(2)),
        ("the best, seed 3", "seeds", again(3)),
        plain("paper with LRN and two groups, 1 epoch", "recipes", Recipe("paper", AS_PUBLISHED, 1), test=False),
        brief("cifar10-best, pooling by slices", "cifar10-best", sliced=True),
        brief("cifar10-best, batches of 512", "cifar10-best", "training.batch_size=512"),
        brief("cifar10-best, float32", "cifar10-best", "training.precision=float32"),
        brief("cifar10-best, batches of 1024", "cifar10-best", "training.batch_size=1024"),
        brief("cifar10-best, batches of 128", "cifar10-best", "training.batch_size=128"),
        brief("paper, batches of 512", "paper", "training.batch_size=512"),
        brief("paper, float32", "paper", "training.precision=float32"),
        (
            "wider and deeper, 40 epochs",
            "reference",
            lambda: bench.reference(1, 40, widths=(128, 384, 512), depth=3, cutout=12),
        ),
        ("cifar10-best, a call for each step (fit)", "one at a time", lambda: by_fit(bench)),
        plain("paper, 30 epochs", "recipes", Recipe("paper", epochs=30)),
        plain("paper with Muon, 10 epochs", "recipes", Recipe("paper", PAPER_WITH_MUON, 10)),
        searched("and wider by half", lambda: on_top(bench, wider=1.5)),
        searched("and distorted", lambda: on_top(bench, distorted=0.5)),
        searched("and dropout of 0.3", lambda: on_top(bench, sets=("model.dropout=0.3",))),
    ]


def peak(tiny: bool) -> dict:
    """TFLOP/s of a large product of matrices, and seconds of a pooling with its gradient in two ways."""
    import jax
    import jax.numpy as jnp

    from benchmarks import epochs as loop

    size, repeats = (256, 3) if tiny else (8192, 30)
    a, b = (jax.random.normal(jax.random.key(seed), [size, size], jnp.bfloat16) / size**0.5 for seed in (1, 2))

    @jax.jit
    def products(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (a @ x, None), b, None, length=repeats)[0]

    found: dict[str, Any] = {"size": size, "tflops_of_product": 2 * size**3 * repeats / _timed(products, a, b) / 1e12}
    shape = [8, 32, 32, 16] if tiny else [512, 32, 32, 256]
    images = jax.random.normal(jax.random.key(3), shape, jnp.bfloat16)
    for name, kind in (("pooling", keras.layers.MaxPooling2D), ("pooling_by_slices", loop.SlicedMaxPooling)):
        layer = kind(3, strides=2, padding="same", dtype="bfloat16")

        def gradient(x: jax.Array, layer: Any = layer) -> jax.Array:
            pooled, back = jax.vjp(layer, x)
            return back(pooled)[0]

        found[f"seconds_of_{name}"] = _timed(jax.jit(gradient), images)
    return found


def _timed(function: Callable, *arguments: Any) -> float:
    """Seconds of a call, the median of five."""
    import jax

    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def sliced(bench: Bench) -> bool:
    """Whether pooling by slices is faster here."""
    found = bench.done().get("peak")
    return found is not None and found["seconds_of_pooling_by_slices"] < found["seconds_of_pooling"]


def start(bench: Bench) -> Recipe:
    """What the search starts from: cifar10-best at full width, for as many epochs as `SEARCHED` has room for."""
    sets = ("model.width=1.0", *BATCHES_OF_512)
    plain = Recipe("cifar10-best", sets, 64, sliced=sliced(bench))
    network = bench.network(bench.of(plain), "float32")
    work = 3 * training.flops(network) * len(bench.data.train) / 1e12
    room = SEARCHED / (work / bench.tflops(plain.preset))
    return dataclasses.replace(plain, epochs=int(np.clip(8 * (room // 8), 40, 120)))


def chosen(bench: Bench) -> tuple[str, Recipe]:
    """The best of the search so far, by the validation split with its views.

    Raises:
        TooLong: there is none.
    """
    ranked = _ranked(bench)
    if not ranked:
        raise TooLong("the search has no result yet")
    return ranked[0], _recipe(bench, ranked[0])


def on_top(bench: Bench, sets: tuple[str, ...] = (), wider: float = 1.0, **changes: Any) -> Recipe:
    """The best so far with something changed; taught by none."""
    name = next((name for name in _ranked(bench) if not _recipe(bench, name).teachers), None)
    if not name:
        raise TooLong("the search has no result yet")
    return on_top_of(_recipe(bench, name), sets, wider, **changes)


def on_top_of(best: Recipe, sets: tuple[str, ...] = (), wider: float = 1.0, **changes: Any) -> Recipe:
    """A recipe with something changed."""
    if wider != 1:
        width = settings.load(best.preset, list(best.sets)).model.width
        sets = (*sets, f"model.width={width * wider}")
    return dataclasses.replace(best, sets=(*best.sets, *sets), **changes)


def pupil(bench: Bench, teachers: int, longer: float) -> Recipe:
    """The best so far, taught by the best few (Hinton et al. 2015) and on mixed images (Beyer et al. 2022).

    For more epochs than the best, as far as there is time for them.
    """
    name, best = chosen(bench)
    found = bench.result["experiments"][name]
    each = found["seconds"] / len(found["epochs"]) * (1 + teachers / 3)
    room = int((bench.left() - 1.5 * START) / each)
    least = len(found["epochs"])
    return dataclasses.replace(
        best,
        epochs=max(least, min(int(longer * least), room)),
        cutmix=0.5,
        teachers=tuple(_ranked(bench)[:teachers]),
    )


def by_fit(bench: Bench) -> dict:
    """cifar10-best with Keras' `fit`, which calls the device for each step."""
    wanted = bench.of(Recipe("cifar10-best", (), 2))
    bench._allow(2 * START)
    run: dict[str, Any] = training.train(wanted, bench.data, 1, test=False)
    return {**run, "seconds": run["epochs"][-1]["seconds"]}


def _ranked(bench: Bench) -> list[str]:
    found = bench.done("search")
    return sorted(found, key=lambda name: -found[name]["served_val_accuracy"])


def _recipe(bench: Bench, name: str) -> Recipe:
    kept = bench.result["experiments"][name]["recipe"]
    return Recipe(**{**kept, "sets": tuple(kept["sets"]), "teachers": tuple(kept["teachers"])})


def check() -> None:
    """Two steps of both networks with every augmentation, so that what cannot work ends within seconds."""
    from benchmarks import epochs as loop

    random = np.random.default_rng(1)
    split = arrays.Split(random.integers(0, 256, [64, 32, 32, 3], np.uint8), random.integers(0, 10, 64))
    data = arrays.Arrays(split, split, split, 10)
    precision = training._plan(settings.Training(), 64)[0]
    teachers: list[loop.Teacher] = []
    for preset, *sets in (("cifar10-best", "model.width=0.1"), ("paper", "model.width=0.1", "model.input_size=67")):
        began = time.monotonic()
        chosen = settings.load(preset, sets)
        with model.dtype_policy(precision):
            network = model.build(chosen.model, 10, 32, *data.statistics(), to_train=True)
            network = loop.with_sliced_pooling(network) if teachers else network
            learner = recipe.learner(network, chosen.training, 2)
        change = loop.one_after_the_other(loop.distortion(0.5), loop.cutmix(0.5))
        task = loop.of_learner(learner, 0.1, change=change, teachers=teachers, taught=0.5)
        made = loop.Training(task, split, 32, 1, 1)
        told = made.epoch(0)
        made.average()
        made.accuracy(split, SERVED, mean=True)
        teachers = [loop.Teacher(network, *made.values())]
        if not np.isfinite(told["loss"]):
            raise ValueError(f"The loss of {preset} is {told['loss']}.")
        print(f"check of {preset}: {time.monotonic() - began:.1f} s, loss {told['loss']:.3f}", flush=True)


def tables(result: dict) -> list[dict]:
    """The goals beside what was reached, and a table for each group of experiments."""
    made = []
    found = result["experiments"]
    device = result["machine"]["accelerator"] or f"{result['machine']['cores']} cores"
    goals = _goals(found)
    if goals:
        made.append({"title": f"Goals; {device}", "columns": ["goal", "reached", ""], "rows": goals})
    if found.get("peak", {}).get("state") == "done":
        about = found["peak"]
        size = about["size"]
        rows = [
            [f"product of two bfloat16 matrices of {size:,} x {size:,}", f"{about['tflops_of_product']:.0f} TFLOP/s"],
            ["max pooling and its gradient, as Keras has it", f"{1e3 * about['seconds_of_pooling']:.2f} ms"],
            ["as the maximum of slices", f"{1e3 * about['seconds_of_pooling_by_slices']:.2f} ms"],
        ]
        made.append({"title": f"{device}, by itself", "columns": ["what", "measured"], "rows": rows})
    for group, title in GROUPS.items():
        runs = _seeds(found) if group == "seeds" else _of(found, group)
        if runs:
            made.append({"title": f"{title}; {device}", **_rows(runs, result, whole=group == "seeds")})
    others = {name: run for name, run in found.items() if run["state"] != "done"}
    if others:
        rows = [[name, run["state"], run["why"].splitlines()[0][:120]] for name, run in others.items()]
        made.append({"title": "Not measured", "columns": ["what", "", "why"], "rows": rows})
    return made


def _of(found: dict[str, dict], group: str) -> dict[str, dict]:
    return {name: run for name, run in found.items() if run["group"] == group and run["state"] == "done"}


def _seeds(found: dict[str, dict]) -> dict[str, dict]:
    """The best of the search with all its seeds; none where it has but one."""
    further = _of(found, "seeds")
    best = {run["of"] for run in further.values()}
    return {f"{name}, seed {found[name]['seed']}": found[name] for name in best} | further


def _goals(found: dict[str, dict]) -> list[list[str]]:
    """What was to be reached, what was, and whether that is enough. Accuracies are of the test split, as served."""
    rows = []

    def add(goal: str, reached: str, met: bool) -> None:
        rows.append([goal, reached, "met" if met else "not met"])

    for name, goal in (
        ("paper, 10 epochs", 0.7734),
        ("paper, 30 epochs", 0.90),
        ("paper with Muon, 30 epochs", 0.90),
    ):
        run = found.get(name, {})
        if run.get("state") == "done":
            accuracy = run["served_test_accuracy"]
            add(f"{name}: {_percent(goal)} of test", _percent(accuracy), accuracy >= goal)
        elif run:
            rows.append([f"{name}: {_percent(goal)} of test", "–", "not measured"])
    brief = found.get("paper, 10 epochs", {})
    if brief.get("state") == "done":
        seconds, compiled = brief["seconds"], brief["compile_seconds"]
        reached = f"{seconds:.1f} s, and {compiled:.0f} s of compilation"
        peak = found.get("peak", {})
        if peak.get("state") == "done":
            share = brief["tflops"] / peak["tflops_of_product"]
            reached += f"; {_percent(share)} of the TFLOP/s of the product of matrices"
        add(f"paper, 10 epochs: within {PAPER_SECONDS:.0f} s", reached, seconds <= PAPER_SECONDS)
    runs = list(_seeds(found).values())
    if runs:
        for split, key in (("validation", "served_val_accuracy"), ("test", "served_test_accuracy")):
            mean = statistics.fmean(run[key] for run in runs)
            add(f"the best of the search: 93 % of {split}, {len(runs)} seeds", _percent(mean), mean >= 0.93)
        seconds = statistics.fmean(run["seconds"] for run in runs)
        taught = sum(found[name]["seconds"] for name in runs[0]["recipe"]["teachers"])
        reached = f"{seconds:.0f} s, and {taught:.0f} s of its teachers"
        add(f"the best of the search: within {BEST_SECONDS:.0f} s", reached, seconds + taught <= BEST_SECONDS)
    return rows


def _percent(share: float) -> str:
    return training._number(share, ".2%")


def _rows(runs: dict[str, dict], result: dict, whole: bool = False) -> dict[str, Any]:
    """A line for each; if `whole`, also their mean and standard deviation."""
    peak = result["peak_tflops"]
    columns: dict[str, tuple[list, str]] = {
        "epochs": ([len(run["epochs"]) for run in runs.values()], ".0f"),
        "images/s": ([run["images_per_second"] for run in runs.values()], ",.0f"),
        "of peak": ([training.peak_share(run, peak) for run in runs.values()], ".1%"),
        **{
            f"to {100 * target:g} %": ([_seconds_to(run["epochs"], target) for run in runs.values()], ".1f")
            for target in result["targets"]
        },
        "in all": ([run["seconds"] for run in runs.values()], ".1f"),
        "compiled": ([run.get("compile_seconds") for run in runs.values()], ".0f"),
        "validation": ([run["epochs"][-1].get("val_accuracy") for run in runs.values()], ".2%"),
        "validation, as served": ([run.get("served_val_accuracy") for run in runs.values()], ".2%"),
        "mean of weights": ([run.get("mean_served_val_accuracy") for run in runs.values()], ".2%"),
        "test": ([run.get("test_accuracy") for run in runs.values()], ".2%"),
        "test, as served": ([run.get("served_test_accuracy") for run in runs.values()], ".2%"),
    }
    columns = {name: column for name, column in columns.items() if any(value is not None for value in column[0])}
    rows = [
        [name, *(training._number(values[at], form) for values, form in columns.values())]
        for at, name in enumerate(runs)
    ]
    if whole:
        rows += training.summaries(columns)
    return {"columns": ["what", *columns], "rows": rows}


def _seconds_to(epochs: Sequence[dict], accuracy: float) -> float | None:
    return next((epoch["seconds"] for epoch in epochs if epoch.get("val_accuracy", 0) >= accuracy), None)


def _line(found: dict) -> str:
    if found["state"] != "done":
        return f"{found['state']}, {found['why']}"
    kinds = {int: "{}", float: "{:.5g}"}
    return ", ".join(
        f"{name} {kinds[type(value)].format(value)}"
        for name, value in found.items()
        if type(value) in kinds and name not in ("parameters", "flops_per_image")
    )


if __name__ == "__main__":
    main()
