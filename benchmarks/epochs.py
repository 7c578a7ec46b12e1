"""Training on JAX with the images on the device and a whole epoch in one call.

`fit` gives the device a batch and a call for each step, which is the limit where a step takes a few milliseconds.
Here one compiled call augments and learns in a loop on the device. Layers, loss, optimizer and schedule are those
that it is given, so the weights become those that `fit` would make of the same order of the images.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks import arrays
from trainer import views

EVALUATED = 1000  # images in a batch, at most

# From images uint8, targets [batch, classes], a key and the share of the training that is done, to both changed.
Change = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network, whose answers others learn."""

    network: keras.Model
    trainable: list
    others: list


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained, and how.

    Attributes:
        augmentation: layers that change training images.
        network: from uint8 images to logits.
        optimizer: keras.Optimizer, or what has its `variables` and `stateless_apply`; built.
        smoothing: of the labels.
        summed: take the sum of a batch's losses, not the mean.
        change: of the augmented images and their targets.
        teachers: networks whose mean answer to the augmented images is learned.
        taught: what part of the target theirs is.
    """

    augmentation: Sequence[keras.Layer]
    network: keras.Model
    optimizer: Any
    smoothing: float
    summed: bool = False
    change: Change | None = None
    teachers: Sequence[Teacher] = ()
    taught: float = 0.0


def of_learner(learner: keras.Sequential, smoothing: float, **further: Any) -> Task:
    """A compiled `trainer.metrics.Learner` as a task; `smoothing` is that of its loss."""
    *augmentation, network = learner.layers
    learner.optimizer.build(network.trainable_variables)
    return Task(augmentation, network, learner.optimizer, smoothing, **further)


class Training:
    """A training, compiled and on the device.

    Attributes:
        lower_seconds: of tracing.
        compile_seconds: of XLA.
        steps: in an epoch.
    """

    def __init__(self, task: Task, split: arrays.Split, batch_size: int, epochs: int, seed: int) -> None:
        """
        Args:
            task: what is trained, and how.
            split: the training images.
            batch_size: in images.
            epochs: of the whole training, which schedules and changes go by.
            seed: of the order of the images, and of the task's change.
        """
        self._task = task
        self._images, self._labels = jnp.asarray(split.images), jnp.asarray(split.labels.astype(np.int32))
        self._batch_size, self._epochs = batch_size, epochs
        self.steps = len(split) // batch_size
        self._evaluated = min(EVALUATED, max(batch_size, len(split) // 10))
        self._shuffled = [variable for layer in task.augmentation for variable in layer.variables]
        state = (
            task.network.trainable_variables, task.network.non_trainable_variables, self._shuffled,
            task.optimizer.variables,
        )  # fmt: skip
        # Copies, since each call is given the last one's memory.
        self._state = jax.tree.map(lambda variable: jnp.array(variable.value), state, is_leaf=_is_variable)
        # Arguments of each call: as constants of the program, XLA would compute with them while it compiles.
        self._told = [(teacher.trainable, teacher.others) for teacher in task.teachers]
        self._key = jax.random.key(seed)
        self._mean: tuple[list, list] | None = None
        self._averaged = 0
        order = jax.ShapeDtypeStruct((self.steps, batch_size), jnp.int32)
        shape = (self._evaluated, *split.images.shape[1:])
        began = time.monotonic()
        number = jnp.int32(0)
        epoch = jax.jit(self._epoch, donate_argnums=0).lower(
            self._state, self._images, self._labels, self._told, order, self._key, number
        )
        answer = jax.jit(self._answer).lower(*self._state[:2], jax.ShapeDtypeStruct(shape, jnp.uint8))
        self.lower_seconds = time.monotonic() - began
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self._run_epoch, self._run_answer = pool.map(lambda lowered: lowered.compile(), (epoch, answer))
        self.compile_seconds = time.monotonic() - began

    def epoch(self, number: int, order: np.ndarray | None = None) -> dict[str, float]:
        """Trains for an epoch.

        Args:
            number: from 0.
            order: of the images, int [steps, batch size]; None: by chance.

        Returns:
            seconds by the clock until all is done, the means of loss and accuracy.
        """
        began = time.monotonic()
        key = jax.random.fold_in(self._key, number)
        if order is None:
            mixed = jax.random.permutation(key, len(self._images))[: self.steps * self._batch_size]
            chosen = mixed.astype(jnp.int32).reshape(self.steps, self._batch_size)
        else:
            chosen = jnp.asarray(order, jnp.int32)
        self._state, (loss, accuracy) = self._run_epoch(
            self._state, self._images, self._labels, self._told, chosen, key, jnp.int32(number)
        )
        told = {"loss": float(loss), "accuracy": float(accuracy)}
        return {"seconds": time.monotonic() - began, **told}

    def average(self) -> None:
        """Counts the weights of now into their mean; moments of batch normalization, too."""
        self._averaged += 1
        self._mean = _averaged(self._mean or self._state[:2], self._state[:2], self._averaged)

    def accuracy(self, split: arrays.Split, view_count: int = 1, mean: bool = False) -> float:
        """Of the mean of the logits over so many views (`views.seen`); `mean`: of the mean of the weights."""
        trainable, others = self._mean if mean and self._mean else self._state[:2]
        right = 0
        for at in range(0, len(split), self._evaluated):
            part, labels = (each[at : at + self._evaluated] for each in (split.images, split.labels))
            padded = np.zeros([self._evaluated, *part.shape[1:]], np.uint8)
            padded[: len(part)] = part
            logits = sum(np.asarray(self._run_answer(trainable, others, view)) for view in _views(padded, view_count))
            right += int(np.sum(np.argmax(logits, axis=1)[: len(part)] == labels))
        return right / len(split)

    def values(self, mean: bool = False) -> tuple[list, list]:
        """The network's variables as they are now, trainable and others; `mean`: their mean."""
        return self._mean if mean and self._mean else self._state[:2]

    def _epoch(
        self,
        state: tuple,
        images: jax.Array,
        labels: jax.Array,
        teachers: list[tuple],
        order: jax.Array,
        key: jax.Array,
        number: jax.Array,
    ) -> tuple:
        def step(state: tuple, chosen: tuple) -> tuple:
            indices, key, at = chosen
            done = (number + at / self.steps) / self._epochs
            return self._step(state, images[indices], labels[indices], teachers, key, done)

        keys = jax.random.split(jax.random.fold_in(key, 1), self.steps)
        told: tuple[jax.Array, jax.Array]
        # On a CPU convolutions are a hundred times slower within a loop.
        unroll = self.steps <= 2 and jax.default_backend() == "cpu"
        state, told = jax.lax.scan(step, state, (order, keys, jnp.arange(self.steps)), unroll=unroll)
        return state, (jnp.mean(told[0]), jnp.mean(told[1]))

    def _step(
        self,
        state: tuple,
        images: jax.Array,
        labels: jax.Array,
        teachers: list[tuple],
        key: jax.Array,
        done: jax.Array,
    ) -> tuple:
        task = self._task
        trainable, others, shuffled, optimizer = state
        with keras.StatelessScope(list(zip(self._shuffled, shuffled, strict=True))) as scope:
            for layer in task.augmentation:
                images = layer(images, training=True)
        shuffled = [scope.get_current_value(variable) for variable in self._shuffled]
        classes = task.network.output_shape[-1]
        target = jax.nn.one_hot(labels, classes) * (1 - task.smoothing) + task.smoothing / classes
        if task.change:
            images, target = task.change(images, target, key, done)
        if teachers:
            told = [
                jax.nn.softmax(teacher.network.stateless_call(*values, images, training=False)[0])
                for teacher, values in zip(task.teachers, teachers, strict=True)
            ]
            target = (1 - task.taught) * target + task.taught * sum(told) / len(told)

        def losses(trainable: list, others: list) -> tuple:
            logits, others = task.network.stateless_call(trainable, others, images, training=True)
            each = keras.losses.categorical_crossentropy(target, logits, from_logits=True)
            return jnp.sum(each) if task.summed else jnp.mean(each), (others, logits)

        (loss, (others, logits)), gradients = jax.value_and_grad(losses, has_aux=True)(trainable, others)
        trainable, optimizer = task.optimizer.stateless_apply(optimizer, gradients, trainable)
        right = jnp.mean(jnp.argmax(logits, axis=1) == labels)
        per_image = loss / len(labels) if task.summed else loss
        return (list(trainable), list(others), shuffled, list(optimizer)), (per_image, right)

    def _answer(self, trainable: list, others: list, images: jax.Array) -> jax.Array:
        return self._task.network.stateless_call(trainable, others, images, training=False)[0]


def cutmix(share: float, until: float = 1.0) -> Change:
    """Puts a part of another image into some (Yun et al.: CutMix, 2019), and as much of its label into the target.

    Args:
        share: of the images.
        until: the share of the training after which it ends.
    """

    def change(images: jax.Array, target: jax.Array, key: jax.Array, done: jax.Array) -> tuple:
        count, height, width, _ = images.shape
        keys = jax.random.split(key, 4)
        side = jnp.sqrt(jax.random.uniform(keys[0], [count, 1]))  # of the part; its area is uniform
        side *= (jax.random.uniform(keys[1], [count, 1]) < share) & (done < until)

        def within(key: jax.Array, length: int) -> jax.Array:
            middle = jax.random.uniform(key, [count, 1]) * length
            return jnp.abs(jnp.arange(length)[None, :] + 0.5 - middle) < side * length / 2

        covered = within(keys[2], height)[:, :, None] & within(keys[3], width)[:, None, :]
        part = jnp.mean(covered, axis=(1, 2))[:, None]
        # The batch is in random order, so the neighbour is any image.
        mixed = jnp.where(covered[..., None], jnp.roll(images, 1, axis=0), images)
        return mixed, (1 - part) * target + part * jnp.roll(target, 1, axis=0)

    return change


def distortion(share: float, until: float = 1.0) -> Change:
    """Turns, zooms, slants and recolours some images a little, after the fashion of TrivialAugment (Müller 2021).

    Args:
        share: of the images whose shape, and of those whose colour, changes.
        until: the share of the training after which it ends.
    """

    def change(images: jax.Array, target: jax.Array, key: jax.Array, done: jax.Array) -> tuple:
        count, height, width, channels = images.shape
        keys = jax.random.split(key, 8)

        def drawn(key: jax.Array, reach: float) -> jax.Array:
            value = jax.random.uniform(key, [count, 1, 1], minval=-reach, maxval=reach)
            return value * (done < until)

        shaped = jax.random.uniform(keys[0], [count, 1, 1]) < share
        angle, slant = drawn(keys[1], 0.26) * shaped, drawn(keys[2], 0.2) * shaped
        zoom = jnp.exp(drawn(keys[3], 0.2) * shaped)
        middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
        y, x = jnp.meshgrid(jnp.arange(height) - middle_y, jnp.arange(width) - middle_x, indexing="ij")
        y, x = y[None] * zoom, (x[None] + slant * y[None]) * zoom
        rows = middle_y + jnp.cos(angle) * y - jnp.sin(angle) * x
        columns = middle_x + jnp.sin(angle) * y + jnp.cos(angle) * x
        flat = images.reshape(-1, channels)
        first = jnp.arange(count)[:, None, None] * (height * width)

        def reflected(at: jax.Array, length: int) -> jax.Array:
            at = jnp.abs(at)
            return jnp.clip(jnp.where(at >= length, 2 * length - 2 - at, at), 0, length - 1)

        top, left = jnp.floor(rows).astype(jnp.int32), jnp.floor(columns).astype(jnp.int32)
        below, right = (rows - top)[..., None], (columns - left)[..., None]
        seen: Any = 0.0
        for down, weight_y in ((0, 1 - below), (1, below)):
            for over, weight_x in ((0, 1 - right), (1, right)):
                place = first + reflected(top + down, height) * width + reflected(left + over, width)
                seen += flat[place].astype(jnp.float32) * weight_y * weight_x
        coloured = jax.random.uniform(keys[4], [count, 1, 1, 1]) < share
        light = 1 + drawn(keys[5], 0.3)[..., None] * coloured
        contrast = 1 + drawn(keys[6], 0.3)[..., None] * coloured
        colour = 1 + drawn(keys[7], 0.4)[..., None] * coloured
        seen = seen * light
        seen = (seen - jnp.mean(seen, axis=(1, 2, 3), keepdims=True)) * contrast + jnp.mean(
            seen, axis=(1, 2, 3), keepdims=True
        )
        grey = jnp.mean(seen, axis=3, keepdims=True)
        seen = (seen - grey) * colour + grey
        return jnp.clip(jnp.round(seen), 0, 255).astype(images.dtype), target

    return change


def one_after_the_other(*changes: Change) -> Change:
    """All of the changes, each with a key of its own."""

    def change(images: jax.Array, target: jax.Array, key: jax.Array, done: jax.Array) -> tuple:
        for number, each in enumerate(changes):
            images, target = each(images, target, jax.random.fold_in(key, number), done)
        return images, target

    return change


class SlicedMaxPooling(keras.layers.MaxPooling2D):
    """Max pooling as the maximum of strided slices, first of rows, then of columns.

    XLA makes of the gradient of a reduced window a scatter with atomic additions; that of slices is elementwise.
    Where several values of a window are largest, they share the gradient.
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        x = inputs
        for axis in (1, 2):
            size, stride, length = self.pool_size[axis - 1], self.strides[axis - 1], x.shape[axis]
            count = -(-length // stride) if self.padding == "same" else (length - size) // stride + 1
            missing = max((count - 1) * stride + size - length, 0)
            padding = [(0, 0)] * 4
            padding[axis] = (missing // 2, missing - missing // 2)
            padded = jnp.pad(x, padding, constant_values=-jnp.inf) if missing else x
            last = (count - 1) * stride + 1
            parts = [jax.lax.slice_in_dim(padded, at, at + last, stride, axis) for at in range(size)]
            x = parts[0]
            for part in parts[1:]:
                x = jnp.maximum(x, part)
        return x


def with_sliced_pooling(network: keras.Model) -> keras.Model:
    """The same network, anew, with `SlicedMaxPooling`."""

    def made(layer: keras.Layer) -> keras.Layer:
        kind = SlicedMaxPooling if type(layer) is keras.layers.MaxPooling2D else type(layer)
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(network, clone_function=made)


def _is_variable(thing: object) -> bool:
    return isinstance(thing, keras.Variable)


@jax.jit
def _averaged(mean: Any, values: Any, count: Any) -> Any:
    def of_one(mean: jax.Array, value: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(value.dtype, jnp.floating)
        return mean + (value - mean) / count if floating else jnp.copy(value)  # whose memory is given away later

    return jax.tree.map(of_one, mean, values)


def _views(images: np.ndarray, count: int) -> list:
    return views.seen(jnp.asarray(images), count)
