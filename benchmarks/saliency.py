"""Which maps of what spoke for an answer point at the object, and what they cost.

    python -m benchmarks.saliency [--preset NAME|FILE] [--seeds 1 2 3] [--images N] [--pictures N]
        [--costs NAME ...] [--json FILE]

Trains on shapes10, whose drawings tell where the shape is (`shapes.masks`), and makes a map of each test picture for
the class that the network answers, by every method and layer of `CASES`. Then it makes the maps of a report, with
random weights, by what EvaluationReport calls, and counts processor time. A method is one that the report could have:
it needs nothing but the exported network.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import io
import json
import multiprocessing
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import PIL.Image
import scipy.ndimage
import scipy.stats
import tensorflow as tf

from benchmarks import arrays, machine, report, training
from components import saliency_maps, shapes
from core import settings
from core.errors import UserError
from review.report import schema
from trainer import model, saliency

BATCH = 250
TOLERANCE = 2  # pixels of 32, as 15 of an image of 224 in the pointing game
COMPARED = 150  # pictures whose maps are compared with those of another class, and of random weights
COSTS = {  # what is told -> preset, size of the stored images, size of the pictures
    "shapes10": ("shapes10", 32, (32, 32)),
    "cifar10": ("cifar10", 32, (32, 32)),
    "cifar10-best": ("cifar10-best", 32, (32, 32)),
    "cifar10-gpu": ("cifar10-gpu", 32, (32, 32)),
    "paper": ("paper", 32, (32, 32)),
    "paper, photographs of 500 x 375": ("paper", 227, (500, 375)),
}
GRAD_CAM = "Grad-CAM (Selvaraju et al. 2017)"
OCCLUSION = "occlusion of 3 x 3 cells (Zeiler, Fergus 2014)"
INTEGRATED = "integrated gradients (Sundararajan et al. 2017)"
MISTAKES = 0.6  # of a report's pictures, at most; they have a second map

Score = Callable[[tf.Tensor, np.ndarray], tf.Tensor]
Method = Callable[[saliency.ClassMaps, tf.Tensor, np.ndarray], np.ndarray]


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints tables; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="shapes10")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="GROUP.KEY=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--images", type=int, help="of shapes10's train and validation, at most")
    parser.add_argument("--test-images", type=int, default=500, help="of its test")
    parser.add_argument("--pictures", type=int, default=300, help="of a report, whose maps are timed")
    parser.add_argument("--costs", nargs="*", choices=COSTS, default=list(COSTS), help="of which networks")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    try:
        chosen = settings.load(asked.preset, asked.overrides)
    except UserError as problem:
        parser.error(str(problem))
    about = machine.describe()
    data = arrays.load("shapes10", asked.images, chosen.data.validation_share)
    masks = shapes.masks(range(min(len(data.test), asked.test_images)), "test")
    found = [judge_seed(chosen, data, masks, seed) for seed in asked.seeds]
    costs = {name: cost(name, asked.pictures) for name in asked.costs}
    result = {
        "benchmark": "saliency",
        "machine": about,
        "preset": asked.preset,
        "images": {"train": len(data.train), "test": len(masks)},
        "seeds": asked.seeds,
        "found": found,
        "pictures": asked.pictures,
        "costs": costs,
    }
    result["tables"] = [table(result), *([cost_table(result)] if costs else [])]
    report.show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


# The methods. Each makes a value for each cell of a layer, [n, height, width], of its activations
# [n, height, width, channels] and the classes [n]; what is negative counts as nothing later.


def logit(logits: tf.Tensor, classes: np.ndarray) -> tf.Tensor:
    """Of each image's class, [n]."""
    return tf.gather(logits, classes, batch_dims=1)


def gradients(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray, score: Score) -> tf.Tensor:
    """Of a score by the activations, of their shape."""
    with tf.GradientTape() as tape:
        tape.watch(activations)
        value = score(maps.scores(activations), classes)
    return tape.gradient(value, activations)


def grad_cam(score: Score) -> Method:
    """Selvaraju et al. 2017: activations weighted by the mean gradient of their channel."""

    def make(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray) -> np.ndarray:
        weights = tf.reduce_mean(gradients(maps, activations, classes, score), axis=(1, 2), keepdims=True)
        return tf.reduce_sum(weights * activations, axis=-1).numpy()

    return make


def grad_cam_plus_plus(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray) -> np.ndarray:
    """Chattopadhay et al. 2018: gradients that are positive, each weighted by higher powers of itself."""
    found = gradients(maps, activations, classes, logit)
    squares = found**2
    below = 2 * squares + tf.reduce_sum(activations, axis=(1, 2), keepdims=True) * found**3
    alphas = tf.math.divide_no_nan(squares, below)
    weights = tf.reduce_sum(alphas * tf.nn.relu(found), axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * activations, axis=-1).numpy()


def hires_cam(score: Score) -> Method:
    """Draelos, Carin 2020: activations times gradients."""

    def make(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray) -> np.ndarray:
        return tf.reduce_sum(gradients(maps, activations, classes, score) * activations, axis=-1).numpy()

    return make


def layer_cam(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray) -> np.ndarray:
    """Jiang et al. 2021: activations times gradients that are positive."""
    return tf.reduce_sum(tf.nn.relu(gradients(maps, activations, classes, logit)) * activations, axis=-1).numpy()


def gradient(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray) -> np.ndarray:
    """Simonyan et al. 2014: the largest gradient of a channel, without its sign."""
    return tf.reduce_max(tf.abs(gradients(maps, activations, classes, logit)), axis=-1).numpy()


def occlusion(window: int, stride: int, score: Score) -> Method:
    """Zeiler, Fergus 2014: what the score loses where a square of cells is 0."""

    def make(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray) -> np.ndarray:
        height, width = maps.cells
        whole = score(maps.scores(activations), classes)
        counts = (-(-height // stride), -(-width // stride))
        lost = np.empty((len(classes), *counts), np.float32)
        before = (window - stride) // 2  # the square's centre is that of the stride's
        for row, column in np.ndindex(counts):
            top, left = row * stride - before, column * stride - before
            kept = np.ones((height, width, 1), np.float32)
            kept[max(top, 0) : top + window, max(left, 0) : left + window] = 0
            lost[:, row, column] = whole - score(maps.scores(activations * kept), classes)
        sides = [
            saliency.between(length, count, (stride - 1) / 2, stride)
            for length, count in zip(maps.cells, counts, strict=True)
        ]
        return np.einsum("ih,nhw,jw->nij", sides[0], lost, sides[1])

    return make


def integrated(steps: int, score: Score) -> Method:
    """Sundararajan et al. 2017, of a layer: activations times the mean gradient on the way to them, midpoint rule."""

    def make(maps: saliency.ClassMaps, activations: tf.Tensor, classes: np.ndarray) -> np.ndarray:
        parts = [gradients(maps, activations * (step + 0.5) / steps, classes, score) for step in range(steps)]
        return tf.reduce_sum(tf.add_n(parts) / steps * activations, axis=-1).numpy()

    return make


# What is measured, in this order: method, layer -> how.
CASES: dict[tuple[str, str], Method] = {
    ("gradient (Simonyan et al. 2014)", "normalize"): gradient,
    **{
        ("Grad-CAM (Selvaraju et al. 2017)", f"conv{at}"): grad_cam(logit)
        for at in ("3_relu", "4_relu", "5", "5_relu")
    },
    **{("Grad-CAM++ (Chattopadhay et al. 2018)", f"conv{at}_relu"): grad_cam_plus_plus for at in (1, 2, 4)},
    **{("LayerCAM (Jiang et al. 2021)", f"conv{at}_relu"): layer_cam for at in (1, 2, 4)},
    **{("HiResCAM (Draelos, Carin 2020)", f"conv{at}_relu"): hires_cam(logit) for at in (2, 3, 4)},
    **{(OCCLUSION, f"conv{at}_relu"): occlusion(3, 1, logit) for at in (3, 4, 5)},
    **{(INTEGRATED, f"conv{at}_relu"): integrated(1, logit) for at in (2, 3, 4)},
    **{(f"{INTEGRATED}, log-odds", f"conv{at}_relu"): integrated(1, saliency.log_odds) for at in range(1, 5)},
    **{
        (f"{INTEGRATED}, log-odds, 4 steps", f"conv{at}_relu"): integrated(4, saliency.log_odds)
        for at in (1, 2, 3, 4)
    },
}


def judge_seed(chosen: settings.Settings, data: arrays.Arrays, masks: np.ndarray, seed: int) -> dict:
    """Trains once, and judges every case: {"accuracy", "cases": [{"method", "layer", ...}]}."""
    _, learner, *_ = training.fit(chosen, data, seed)
    images, labels = data.test.images[: len(masks)], data.test.labels[: len(masks)]
    side = images.shape[1]
    trained = model.build(chosen.model, data.classes, side, *data.statistics())
    trained.set_weights(learner.layers[-1].get_weights())
    random = model.build(chosen.model, data.classes, side, *data.statistics())
    order = np.argsort(trained.predict(images, BATCH, verbose=0), axis=1)
    classes, others = order[:, -1], order[:, -2]
    cases = [{"method": name, "layer": "", **judge(maps, masks, labels)} for name, maps in blind(masks)]
    few = slice(COMPARED)
    for (name, layer), method in CASES.items():
        before = time.process_time()
        maps = draw(trained, layer, method, images, classes)
        seconds = time.process_time() - before
        case = {"method": name, "layer": layer, **judge(maps, masks, labels), "ms": 1000 * seconds / len(maps)}
        case["other"] = likeness(maps[few], draw(trained, layer, method, images[few], others[few]))
        case["random"] = likeness(maps[few], draw(random, layer, method, images[few], classes[few]))
        cases.append(case)
        print(f"seed {seed}, {name}, {layer}: {case['pointing']:.3f}", file=sys.stderr, flush=True)
    return {"accuracy": float(np.mean(classes == labels)), "cases": cases}


def blind(masks: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Maps that know nothing of the picture, [n, side, side]: what a method has to beat."""
    side = masks.shape[1]
    away = np.arange(side) - (side - 1) / 2
    bump = np.exp(-(away[:, None] ** 2 + away**2) / (2 * (side / 4) ** 2))
    return [
        ("a hill in the middle, the same for all", np.broadcast_to(bump, masks.shape)),
        ("any place, by chance", np.random.default_rng(0).random(masks.shape)),
    ]


def draw(network: keras.Model, layer: str, method: Method, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Maps by a method, float32 [n, side, side] in 0 to 1."""
    maps = saliency.ClassMaps(network, layer)
    made = []
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        made.append(maps.spread(method(maps, maps.activations(images[part]), classes[part])))
    return saliency.scaled(np.concatenate(made))


def judge(maps: np.ndarray, masks: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well maps [n, side, side] point at the objects [n, side, side].

    Returns:
        pointing: the pointing game (Zhang et al. 2018): how often the hottest pixel lies within TOLERANCE of the
            object, the mean over the classes.
        hottest: how often on it.
        apart: likewise, of those pictures alone in whose middle no object is.
        heat: the share of a map on the object, on average (Wang et al. 2020).
        nothing: the share of maps without any heat, which miss.
    """
    away = np.arange(-TOLERANCE, TOLERANCE + 1)
    disc = away[:, None] ** 2 + away**2 <= TOLERANCE**2
    near = scipy.ndimage.binary_dilation(masks, disc[None])
    rows, places = np.arange(len(maps)), maps.reshape(len(maps), -1).argmax(axis=1)
    total = maps.sum(axis=(1, 2))
    hit, on = (part.reshape(len(part), -1)[rows, places] & (total > 0) for part in (near, masks))
    heat = (maps * masks).sum(axis=(1, 2)) / np.where(total > 0, total, 1)
    middle = slice(masks.shape[1] // 2 - 1, masks.shape[1] // 2 + 1)
    apart = ~masks[:, middle, middle].any(axis=(1, 2))
    return {
        "pointing": float(np.mean([hit[labels == label].mean() for label in np.unique(labels)])),
        "hottest": float(on.mean()),
        "apart": float(on[apart].mean()) if apart.any() else 0.0,
        "heat": float(heat.mean()),
        "nothing": float(np.mean(total == 0)),
    }


def likeness(maps: np.ndarray, others: np.ndarray) -> float:
    """Spearman's rank correlation of the pixels of two maps, the mean over the pictures where both have any heat."""
    ranks = [scipy.stats.rankdata(part.reshape(len(part), -1), axis=1) for part in (maps, others)]
    ranks = [part - part.mean(axis=1, keepdims=True) for part in ranks]
    norms = np.sqrt(np.prod([np.sum(part**2, axis=1) for part in ranks], axis=0))
    products = np.sum(ranks[0] * ranks[1], axis=1)
    return float(np.mean(products[norms > 0] / norms[norms > 0]))


def cost(name: str, pictures: int) -> dict[str, float]:
    """Seconds of the maps of a report, in a process of its own: {"processor", "clock", "bytes"} and the layer."""
    spawn = multiprocessing.get_context("spawn")  # nothing is warm, as in the node
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(cost_here, name, pictures).result()


def cost_here(name: str, pictures: int) -> dict:
    """What `cost` measures."""
    preset, stored, size = COSTS[name]
    chosen = settings.load(preset)
    names = shapes.CLASSES
    network = model.build(chosen.model, len(names), stored, (128.0,) * 3, (4000.0,) * 3)
    images, labels = shapes.draw(range(pictures), "test")
    encoded, shown = [], []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        buffer = io.BytesIO()
        drawn = PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BICUBIC)
        drawn.save(buffer, "PNG" if size == (32, 32) else "JPEG")
        encoded.append(buffer.getvalue())
        wrong = number < MISTAKES * pictures
        answer = names[(label + wrong) % len(names)]
        side = min(96 / max(size), 1)
        shown.append(
            schema.Picture(
                file=f"{number:05d}.png",
                id=str(number),
                width=round(side * size[0]),
                height=round(side * size[1]),
                true=names[label],
                top=[(answer, 1.0)],
                kind="mistake" if wrong else "right",
            )
        )
    before = time.process_time(), time.perf_counter()
    _, files, made = saliency_maps.add(network, shown, encoded, names)
    after = time.process_time(), time.perf_counter()
    assert made is not None
    return {
        "processor": after[0] - before[0],
        "clock": after[1] - before[1],
        "maps": len(files),
        "bytes": sum(map(len, files.values())),
        "layer": made.layer,
        "cells": made.cells,
    }


SIMPLE = {"other": 2, "random": 2, "ms": 1}  # what is told as a number, and with how many digits


def table(result: dict) -> dict:
    """One line for each method and layer: means over the seeds."""
    rows = collections.defaultdict(list)
    for found in result["found"]:
        for case in found["cases"]:
            rows[case["method"], case["layer"]].append(case)
    lines = []
    for (method, layer), cases in rows.items():
        mean = {
            key: statistics.fmean(case[key] for case in cases)
            for key in ("pointing", "hottest", "apart", "heat", "other", "random", "ms")
            if key in cases[0]
        }
        shares = [f"{100 * mean[key]:.1f} %" for key in ("pointing", "hottest", "apart", "heat")]
        more = [f"{mean[key]:.{digits}f}" if key in mean else "" for key, digits in SIMPLE.items()]
        lines.append([method, layer, *shares, *more])
    accuracy = statistics.fmean(found["accuracy"] for found in result["found"])
    return {
        "title": f"{result['images']['test']:,} test pictures of shapes10, preset {result['preset']}, mean of "
        f"{len(result['seeds'])} seeds, accuracy {100 * accuracy:.1f} %",
        "columns": [
            *("method", "layer", "pointing game", "hottest on it", "not in the middle", "heat on it"),
            *("other class", "random weights", "ms"),
        ],
        "rows": lines,
    }


def cost_table(result: dict) -> dict:
    """One line for each network."""
    return {
        "title": f"Maps of a report of {result['pictures']} pictures, processor time on {os.cpu_count()} cores",
        "columns": ["preset", "layer", "cells", "maps", "seconds", "by the clock", "bytes each"],
        "rows": [
            [
                name,
                cost["layer"],
                " x ".join(map(str, cost["cells"])),
                str(cost["maps"]),
                f"{cost['processor']:.1f}",
                f"{cost['clock']:.1f}",
                f"{cost['bytes'] / cost['maps']:,.0f}",
            ]
            for name, cost in result["costs"].items()
        ],
    }


if __name__ == "__main__":
    main()
