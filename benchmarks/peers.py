"""What Trainer and its input cost against other ways to do the same, as ratios within one run.

    python -m benchmarks.peers [--preset NAME|FILE] [--data SOURCE] [--images N] [--trained N] [--stored N]
        [--repeats N] [--json FILE]

Measured by turns, each with a warm-up that does not count:

- our training: the network and recipe of the preset, fed by Trainer's input from transformed examples;
- a bare `fit` of the same from arrays in memory;
- our input alone, its batches thrown away: the first epoch, which reads and decodes, and later ones from its cache;
- the script that projects like this grew from: AlexNet with BatchNormalization at 227 pixels, resized by tf.data;
- what Transform stores: ours, bytes of 32 pixels, and TFX's classic way, floats of 224 pixels. Given are bytes and
  processor time of each image more: what does not grow with their number does not count.

Speeds are by the clock. Ratios are given by the clock and by processor time, which other work on the machine hardly
changes: that is what `benchmarks.guard` compares.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import keras
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.coders import example_coder
from tfx_bsl.public import tfxio

from benchmarks import arrays, machine, report
from core import images as codec
from core import settings
from core.errors import UserError
from trainer import features, hardware, model, preprocessing, recipe
from trainer.input import training_dataset

EPOCHS = 3  # of a turn; the first is the warm-up
SEED_BATCH, SEED_STEPS, SEED_SIDE = 32, 4, 227
SEED_IMAGES, SEED_EPOCHS = 50_000, 10  # what the script trains on, for the extrapolation
CLASSIC_SIDE = 224
COMPARED = {  # name: one speed and the other
    "training / bare fit": ("ours", "bare"),
    "input / bare fit": ("input", "bare"),
    "input, first epoch / bare fit": ("input, first epoch", "bare"),
    "training / 227-pixel script": ("ours", "seed"),
}
STORED = {"Transform, bytes": "bytes", "Transform, processor time": "seconds"}
RAW = {
    features.IMAGE: tf.io.FixedLenFeature([], tf.string),
    features.LABEL: tf.io.FixedLenFeature([], tf.int64),
    features.CLASS_NAME: tf.io.FixedLenFeature([], tf.string),
}


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints a table; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default=settings.DEFAULT_PRESET)
    parser.add_argument("--data", default="shapes10", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("--images", type=int, default=60_000, help="for the input, as many times over as it takes")
    parser.add_argument("--trained", type=int, default=6_000, help="images in an epoch of training")
    parser.add_argument("--stored", type=int, default=500, help="images that Transform stores as floats")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    try:
        chosen = settings.load(asked.preset)
        result = measure(chosen, asked.data, asked.images, asked.trained, asked.stored, asked.repeats)
    except UserError as problem:
        parser.error(str(problem))
    result |= {"preset": asked.preset, "data": pathlib.Path(asked.data).name, "tables": [table(result)]}
    report.show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


def measure(
    chosen: settings.Settings, source: str, images: int, trained: int, stored: int, repeats: int
) -> dict[str, object]:
    """Everything above.

    Returns:
        Numbers with their machine. Speeds are medians, in images/s; `ratios` (of processor time) and `clock_ratios`
        are such that more is better for us.
    """
    result: dict[str, object] = {"benchmark": "peers", "machine": machine.describe(), "repeats": repeats}
    # The validation split is of no use here, so its share is 0.
    data = arrays.load(source, max(trained, stored), validation_share=0.0)
    side = data.train.images.shape[1]
    part = data.train.take(slice(trained))
    plan = hardware.plan(chosen.training, len(part))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        small = write_transformed(folder / "small.gz", part, len(part))
        large = write_transformed(folder / "large.gz", data.train, images)

        with model.dtype_policy(plan.precision):
            network = model.build(chosen.model, data.classes, side, *data.statistics(), to_train=True)
            learner = recipe.learner(network, chosen.training, plan.steps, plan.jit, plan.steps_per_call)

        def ours() -> list[Speed]:
            dataset = training_dataset(small, side, len(part), plan.batch_size, plan.steps, range(EPOCHS), seed=1)
            return fit(learner, plan.steps * plan.batch_size, x=dataset, steps_per_epoch=plan.steps)

        def bare() -> list[Speed]:
            whole = plan.steps * plan.batch_size
            return fit(learner, whole, x=part.images[:whole], y=part.labels[:whole], batch_size=plan.batch_size)

        def alone() -> list[Speed]:
            return drain(large, side, images, plan.batch_size)

        seed = seed_network(data.classes)

        def script() -> list[Speed]:
            whole = SEED_STEPS * SEED_BATCH
            return fit(seed, whole, x=seed_dataset(part.take(slice(whole))))

        speeds: dict[str, list[list[Speed]]] = {}
        kinds: dict[str, Callable[[], list[Speed]]] = {"ours": ours, "bare": bare, "input": alone, "seed": script}
        for _, (kind, function) in itertools.product(range(repeats), kinds.items()):
            speeds.setdefault(kind, []).append(function())
            print(f"{kind}: {speeds[kind][-1][-1].clock:,.0f} images/s", file=sys.stderr, flush=True)
        later = {kind: median(itertools.chain(*(turn[1:] for turn in turns))) for kind, turns in speeds.items()}
        later["input, first epoch"] = median(turn[0] for turn in speeds["input"])

        ways = {
            "ours": lambda inputs: preprocessing.preprocessing_fn(
                inputs, {"preprocessing": {"image_size": side, "fit": "stretch"}, "background": "white"}
            ),
            "classic": classic_preprocessing,
        }
        per_image = {}
        for way, count in (("ours", 10 * stored), ("classic", stored)):  # ours takes too little time to be seen else
            few, many = (write_raw(folder / f"{n}.tfrecord", data.train, n) for n in (count // 10, count))
            transform(few, ways[way], folder / f"{way} warm-up")
            low, high = (transform(raw, ways[way], folder / f"{way} {raw.stem}") for raw in (few, many))
            # What does not grow with the images does not count.
            per_image[way] = {name: (high[name] - low[name]) / (count - count // 10) for name in high}
    result |= {
        "images": {"input": images, "trained": len(part), "stored": stored},
        "batch_size": plan.batch_size,
        "precision": plan.precision,
        "images_per_second": {kind: speed.clock for kind, speed in later.items()},
        "seed_hours": SEED_EPOCHS * SEED_IMAGES / later["seed"].clock / 3600,
        "stored_per_image": per_image,
        "clock_ratios": {name: later[one].clock / later[other].clock for name, (one, other) in COMPARED.items()},
        "ratios": {
            **{name: later[one].processor / later[other].processor for name, (one, other) in COMPARED.items()},
            **{name: per_image["classic"][kind] / per_image["ours"][kind] for name, kind in STORED.items()},
        },
    }
    return result


class Speed(NamedTuple):
    """Images for each second by the clock, and for each second of processor time."""

    clock: float
    processor: float


def median(speeds: Iterable[Speed]) -> Speed:
    """Of both figures."""
    return Speed(*map(statistics.median, zip(*speeds, strict=True)))


class Stopwatch:
    """Measures the speed since it was made."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def speed(self, images: int) -> Speed:
        """Of `images` images since then."""
        return Speed(images / (time.perf_counter() - self._clock), images / (time.process_time() - self._processor))


class _Epochs(keras.callbacks.Callback):
    """The speed of each epoch."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.speeds: list[Speed] = []
        self._images = images

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._watch = Stopwatch()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.speeds.append(self._watch.speed(self._images))


def fit(learner: keras.Model, images: int, **arguments: object) -> list[Speed]:
    """The speed of each of `EPOCHS` epochs of `images` images."""
    epochs = _Epochs(images)
    learner.fit(**arguments, epochs=EPOCHS, callbacks=[epochs], verbose=0)
    return epochs.speeds


def drain(files: list[str], side: int, images: int, batch_size: int) -> list[Speed]:
    """The speed of Trainer's input in each epoch, with nothing behind it."""
    steps = images // batch_size
    batches = iter(training_dataset(files, side, images, batch_size, steps, range(EPOCHS), seed=1))
    speeds = []
    for _ in range(EPOCHS):
        watch = Stopwatch()
        for _ in range(steps):
            next(batches)
        speeds.append(watch.speed(steps * batch_size))
    return speeds


def seed_network(classes: int) -> keras.Model:
    """AlexNet with BatchNormalization, as tutorials have it."""
    layers = keras.layers
    network = keras.Sequential([keras.Input([SEED_SIDE, SEED_SIDE, 3])])
    for filters, kernel, strides, padding, pooled in (
        (96, 11, 4, "valid", True),
        (256, 5, 1, "same", True),
        (384, 3, 1, "same", False),
        (384, 3, 1, "same", False),
        (256, 3, 1, "same", True),
    ):
        network.add(layers.Conv2D(filters, kernel, strides, padding, activation="relu"))
        network.add(layers.BatchNormalization())
        if pooled:
            network.add(layers.MaxPooling2D(3, 2))
    network.add(layers.Flatten())
    for _ in range(2):
        network.add(layers.Dense(4096, activation="relu"))
        network.add(layers.Dropout(0.5))
    network.add(layers.Dense(classes, activation="softmax"))
    network.compile(keras.optimizers.SGD(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def seed_dataset(part: arrays.Split) -> tf.data.Dataset:
    """Standardized and resized by tf.data, one image after the other."""

    def prepare(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.image.resize(tf.image.per_image_standardization(image), [SEED_SIDE, SEED_SIDE]), label

    dataset = tf.data.Dataset.from_tensor_slices((part.images, part.labels)).map(prepare)
    return dataset.shuffle(len(part)).batch(SEED_BATCH, drop_remainder=True)


def classic_preprocessing(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What TFX's examples do for a network of 224 pixels: decode, resize, and store as floats."""

    def read(encoded: tf.Tensor) -> tf.Tensor:
        pixels = tf.image.decode_png(encoded, channels=3)
        return tf.image.resize(pixels, [CLASSIC_SIDE, CLASSIC_SIDE]) / 255.0

    image = tf.map_fn(read, tf.reshape(inputs[features.IMAGE], [-1]), fn_output_signature=tf.float32)
    return {
        "image_xf": tf.ensure_shape(image, [None, CLASSIC_SIDE, CLASSIC_SIDE, 3]),
        features.LABEL: inputs[features.LABEL],
    }


def transform(raw: pathlib.Path, preprocessing_fn: Callable, target: pathlib.Path) -> dict[str, float]:
    """Seconds of processor time and gzipped bytes of Transform's work on the file `raw`."""
    schema = schema_utils.schema_from_feature_spec(RAW)
    source = tfxio.TFExampleRecord([str(raw)], schema=schema)
    target.mkdir(parents=True)
    began = time.process_time()
    with (
        beam.Pipeline(argv=settings.Beam().arguments) as pipeline,
        tft_beam.Context(temp_dir=str(target / "temp")),
    ):
        examples = pipeline | source.BeamSource()
        (batches, metadata), _ = (examples, source.TensorAdapterConfig()) | tft_beam.AnalyzeAndTransformDataset(
            preprocessing_fn, output_record_batches=True
        )
        encoder = example_coder.RecordBatchToExamplesEncoder(metadata.schema)
        _ = (
            batches
            | beam.FlatMapTuple(lambda batch, _: encoder.encode(batch))
            | beam.io.WriteToTFRecord(str(target / "data"), file_name_suffix=".gz")
        )
    seconds = time.process_time() - began
    return {"seconds": seconds, "bytes": float(sum(file.stat().st_size for file in target.glob("data*")))}


def write_transformed(file: pathlib.Path, split: arrays.Split, count: int) -> list[str]:
    """`count` examples as Transform leaves them, the split as many times over as it takes."""

    def values(at: int) -> dict[str, tf.train.Feature]:
        return {features.PIXELS: _bytes(split.images[at].tobytes()), features.LABEL: _number(split.labels[at])}

    return _write(file, values, len(split), count, "GZIP")


def write_raw(file: pathlib.Path, split: arrays.Split, count: int) -> pathlib.Path:
    """`count` examples as ImageExampleGen leaves them, the split as many times over as it takes."""

    def values(at: int) -> dict[str, tf.train.Feature]:
        encoded = codec.encode(split.images[at])
        name = _bytes(b"class %d" % split.labels[at])
        return {
            features.IMAGE: _bytes(encoded),
            features.LABEL: _number(split.labels[at]),
            features.CLASS_NAME: name,
        }

    _write(file, values, len(split), count, "")
    return file


def _write(file: pathlib.Path, values: Callable, different: int, count: int, compression: str) -> list[str]:
    records = [
        tf.train.Example(features=tf.train.Features(feature=values(at))).SerializeToString()
        for at in range(min(different, count))
    ]
    with tf.io.TFRecordWriter(str(file), tf.io.TFRecordOptions(compression, compression_level=1)) as writer:
        for _, record in zip(range(count), itertools.cycle(records), strict=False):
            writer.write(record)
    return [str(file)]


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _number(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def table(result: dict) -> dict[str, object]:
    """The ratios, and what they are made of."""
    speeds, stored, ratios = result["images_per_second"], result["stored_per_image"], result["ratios"]
    clock = result["clock_ratios"]
    rows = [
        [
            name,
            "images/s",
            f"{speeds[one]:,.0f}",
            f"{speeds[other]:,.0f}",
            f"{clock[name]:.2f}",
            f"{ratios[name]:.2f}",
        ]
        for name, (one, other) in COMPARED.items()
    ]
    for (name, key), (unit, form) in zip(STORED.items(), (("bytes/image", ",.0f"), ("s/image", ".4f")), strict=True):
        ours, other = (format(stored[way][key], form) for way in ("ours", "classic"))
        rows.append([f"{name}, ours / classic", unit, ours, other, "", f"{ratios[name]:.2f}"])
    hours = f"{result['seed_hours']:.1f}"
    rows.append([f"227-pixel script, {SEED_EPOCHS} epochs", "hours, extrapolated", "", hours, "", ""])
    return {
        "title": f"median of {result['repeats']}, {result['machine']['cores']} cores, {result['precision']}",
        "columns": ["what / against what", "", "ours", "other", "ratio", "CPU time"],
        "rows": rows,
    }


if __name__ == "__main__":
    main()
