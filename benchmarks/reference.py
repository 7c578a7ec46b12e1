"""How hard a data set is: what a recipe with a published accuracy reaches on it.

    python -m benchmarks.reference [--data SOURCE] [--images N] [--seeds 1 2 3] [--epochs N] [--json FILE]

Copies of CIFAR-10 differ: that of the first results in docs/performance.md was stored as JPEG once. So the recipe of
airbench94_muon (Jordan 2024, github.com/KellerJordan/cifar10-airbench), whose 200 runs on the original have 94.0 % of
the test split right, is trained on the data at hand, train and validation together. It is no AlexNet: whitened 2x2
patches, six convolutions, one dense layer.

Rebuilt from its parts in Keras, the same but for two: each image is mirrored by chance in each epoch, not in every
second one, which is worth about 0.1 points there; and the six views of a test image count alike. This script trains
on TensorFlow; network and optimizers are those of any backend, and `benchmarks.gpu` trains them on JAX.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import training  # first: it chooses the backend

# isort: split

import keras
import numpy as np
from keras import layers, ops

from benchmarks import arrays, machine, report
from core import settings
from core.errors import UserError
from trainer import augmentation, model, optimization
from trainer.batch_norm import FusedBatchNormalization

PUBLISHED = 0.940
BATCH_SIZE, EPOCHS = 2000, 8
WIDTHS = (64, 256, 256)  # of the three blocks of two convolutions
WHITENED = 5000  # images that the whitening is measured on
MUON_RATE, MUON_MOMENTUM = 0.24, 0.6
BIAS_RATE, HEAD_RATE, MOMENTUM = 0.053, 0.67, 0.85
DECAY = 2e-6  # times the batch size: a step's decay at the highest rate
WHITENING_LEARNS = 3  # epochs in which the biases of the first layer change
SMOOTHING = 0.2


def main(arguments: list[str] | None = None) -> None:
    """Trains once for each seed, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes10", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("--images", type=int, help="of train and validation together, and of test, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    try:
        data = arrays.load(asked.data, asked.images, validation_share=0)
    except UserError as problem:
        parser.error(str(problem))
    about = machine.describe()
    result = {
        "benchmark": "reference",
        "machine": about,
        "data": pathlib.Path(asked.data).name,
        "images": {name: len(getattr(data, name)) for name in ("train", "test")},
        "epochs": asked.epochs,
        "published": PUBLISHED,
        "runs": [train(data, seed, asked.epochs) for seed in asked.seeds],
    }
    result["tables"] = [table(result)]
    report.show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


def table(result: dict) -> dict[str, object]:
    """A line for each seed."""
    return {
        "title": f"airbench94, {result['epochs']} epochs, {result['data']}, {result['images']['test']:,} test images",
        "columns": ["seed", "test", "test, six views", "published, on the original"],
        "rows": [
            [
                str(run["seed"]),
                f"{100 * run['test_accuracy']:.2f} %",
                f"{100 * run['served_test_accuracy']:.2f} %",
                f"{100 * result['published']:.1f} %",
            ]
            for run in result["runs"]
        ],
    }


def train(data: arrays.Arrays, seed: int, epochs: int) -> dict[str, object]:
    """One training.

    Returns:
        seed, seconds, test_accuracy of the images as they are, served_test_accuracy of the mean over six views.
    """
    from trainer import hardware  # here, since it needs TensorFlow

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    batch_size = min(BATCH_SIZE, len(data.train))
    steps = len(data.train) // batch_size
    with model.dtype_policy(hardware.plan(settings.Training(), len(data.train)).precision):
        network = build(data)
        step = _step(network, batch_size, steps, epochs)
    augment = augmentation.FlipAndShift(True, 2, seed)
    order = np.random.default_rng(seed)
    began = time.monotonic()
    for epoch in range(epochs):
        for chosen in order.permutation(len(data.train))[: steps * batch_size].reshape(steps, batch_size):
            loss = step(augment(data.train.images[chosen], training=True), data.train.labels[chosen])
        print(f"seed {seed}, epoch {epoch + 1}: loss {loss / batch_size:.3f}", file=sys.stderr, flush=True)
    result: dict[str, object] = {"seed": seed, "seconds": round(time.monotonic() - began, 1)}
    for name, count in (("test_accuracy", 1), ("served_test_accuracy", 6)):
        result[name] = training.accuracy(network, data.test, count, batch_size=500)
    return result


def build(data: arrays.Arrays, widths: Sequence[int] = WIDTHS, depth: int = 2) -> keras.Model:
    """The network, from uint8 [batch, height, width, 3] to logits [batch, classes], its first layer whitening.

    Args:
        data: the training images, whose patches are whitened.
        widths: channels of each block.
        depth: convolutions of each block, 2 or 3. With 3 the first's result is added to the last's, as in airbench96.
    """
    mean, variance = data.statistics()
    normalize = layers.Normalization(mean=mean, variance=variance, dtype="float32")
    image = keras.Input(data.train.images.shape[1:], dtype="uint8")
    whiten = layers.Conv2D(24, 2, bias_initializer=keras.initializers.RandomUniform(-(12**-0.5), 12**-0.5))
    x = first = _gelu(whiten(normalize(image)))
    for width in widths:
        for number in range(1, depth + 1):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=_identity_first)(x)
            x = layers.MaxPooling2D(2)(x) if number == 1 else x
            x = FusedBatchNormalization(momentum=0.6, epsilon=1e-5)(x)
            x = layers.Add()([x, first]) if number == 3 else x
            x = _gelu(x)
            first = x if number == 1 else first
    x = layers.GlobalMaxPooling2D(dtype="float32")(x)
    width = x.shape[-1]
    spread = keras.initializers.RandomUniform(-(3**0.5), 3**0.5)  # standard deviation 1
    x = layers.Dense(data.classes, use_bias=False, kernel_initializer=spread, dtype="float32", name="logits")(x)
    network = keras.Model(image, layers.Rescaling(1 / width, dtype="float32")(x))
    whiten.kernel.assign(whitening(np.asarray(normalize(data.train.images[:WHITENED]))))
    whiten.kernel.trainable = False
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.trainable = False
    return network


def whitening(images: np.ndarray, floor: float = 5e-4) -> np.ndarray:
    """Filters, float32 [2, 2, 3, 24], whose first 12 answers to the patches of images are uncorrelated, with a power
    of 1 each; the other 12 are their opposites.

    Args:
        images: normalized, float32 [n, height, width, 3].
        floor: added to the power of each direction.
    """
    parts = [images[:, y : y - 1 or None, x : x - 1 or None] for y in (0, 1) for x in (0, 1)]
    patches = np.concatenate(parts, axis=-1).reshape(-1, 12)  # in the order of a kernel's values
    power, directions = np.linalg.eigh(patches.T @ patches / len(patches))
    filters = directions / np.sqrt(power + floor)
    return np.concatenate([filters, -filters], axis=1).reshape(2, 2, 3, 24).astype(np.float32)


def _gelu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Activation(lambda values: keras.activations.gelu(values, approximate=True))(x)


def _identity_first(shape: tuple[int, ...], dtype: str | None = None) -> keras.KerasTensor:
    """PyTorch's random weights, but for the first channels, which are passed on as they are."""
    height, width, inputs, outputs = shape
    uniform = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
    kernel = np.array(uniform(shape, "float32"))
    passed = np.arange(min(inputs, outputs))
    kernel[..., : len(passed)] = 0
    kernel[height // 2, width // 2, passed, passed] = 1
    return ops.convert_to_tensor(kernel, dtype)


class Grouped:
    """Several optimizers, each for some of a network's variables: what a training step needs of keras.Optimizer."""

    def __init__(self, groups: Sequence[tuple[keras.optimizers.Optimizer, Sequence[int]]]) -> None:
        """
        Args:
            groups: built optimizers, and the places of their variables among the network's trainable ones.
        """
        self._groups = groups

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of all of them."""
        return [variable for optimizer, _ in self._groups for variable in optimizer.variables]

    def apply(self, gradients: Sequence, variables: Sequence[keras.Variable]) -> None:
        """Changes all variables of the network."""
        for optimizer, places in self._groups:
            optimizer.apply([gradients[at] for at in places], [variables[at] for at in places])

    def stateless_apply(self, state: Sequence, gradients: Sequence, values: Sequence) -> tuple[list, list]:
        """The new values of the network's variables and the new state, of JAX's arrays."""
        states = iter(state)
        changed, kept = list(values), []
        for optimizer, places in self._groups:
            own = [next(states) for _ in optimizer.variables]
            new, own = optimizer.stateless_apply(own, [gradients[at] for at in places], [values[at] for at in places])
            kept += own
            for at, value in zip(places, new, strict=True):
                changed[at] = value
        return changed, kept


def optimizers(network: keras.Model, batch_size: int, steps: int, epochs: int) -> Grouped:
    """Muon for the kernels, SGD for the rest. The loss whose gradients it takes is the sum over a batch.

    Args:
        network: see `build`.
        batch_size: in images.
        steps: in an epoch.
        epochs: of the training.
    """
    kinds: dict[str, list[int]] = {"kernel": [], "first": [], "beta": [], "logits": []}
    for at, variable in enumerate(network.trainable_variables):
        known = next((kind for kind in ("beta", "logits") if kind in variable.path), "first")
        kinds["kernel" if len(variable.shape) == 4 else known].append(at)

    def fall(peak: float, over: int = epochs) -> optimization.OneCycle:
        return optimization.OneCycle(peak, over * steps, warmup_share=0)

    def sgd(peak: float, over: int = epochs) -> keras.optimizers.SGD:
        decay = DECAY * batch_size / peak / (1 - MOMENTUM)  # see optimization.sgd; here for biases, too
        return keras.optimizers.SGD(fall(peak, over), MOMENTUM, nesterov=True, weight_decay=decay)

    muon = optimization.Muon(
        [network.trainable_variables[at].path for at in kinds["kernel"]],
        share=1.0,
        precision=keras.config.dtype_policy().compute_dtype,
        learning_rate=fall(MUON_RATE),
        momentum=MUON_MOMENTUM,
        nesterov=True,
    )
    groups = [
        (muon, kinds["kernel"]),
        (sgd(BIAS_RATE, WHITENING_LEARNS), kinds["first"]),
        (sgd(BIAS_RATE), kinds["beta"]),
        (sgd(HEAD_RATE), kinds["logits"]),
    ]
    for optimizer, places in groups:
        optimizer.build([network.trainable_variables[at] for at in places])
    return Grouped(groups)


def _step(network: keras.Model, batch_size: int, steps: int, epochs: int) -> Callable:
    """A training step from images and labels to the sum of the losses."""
    import tensorflow as tf  # here, for the sake of the other backends

    optimizer = optimizers(network, batch_size, steps, epochs)
    crossentropy = optimization.smoothed_crossentropy(SMOOTHING)

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(crossentropy(labels, network(images, training=True)))
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    return step


if __name__ == "__main__":
    main()
