"""Where in an image a network sees what speaks for a class.

The method is integrated gradients (Sundararajan et al. 2017) of a layer's activations, from none to what they are, by
the midpoint rule in one step: the activations times the gradient at half of them, summed over the channels. The
gradient is that of the class's log-odds, so that what speaks for all classes counts for none; what speaks against the
class counts as nothing. The layer is one in the middle, whose cells do not see the whole image.

`python -m benchmarks.saliency` compares it with Grad-CAM (Selvaraju et al. 2017), occlusion and others: of those that
cost as little and pass the checks of Adebayo et al. 2018, that other weights and another class give another map, its
hottest point lies on the object most often. A map shows where, not what; and that it looks right proves nothing.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.summary import CHANNELS

METHOD = "integrated gradients (Sundararajan et al. 2017)"
FIELD = 2 / 3  # of an image's side, at most, is what a cell sees: measured were the layers of the preset shapes10
FEWEST_CELLS = 7  # along a side, where it is not known what a cell sees
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
POOLINGS = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


class ClassMaps:
    """Makes maps of one network.

    Attributes:
        size: side of the images, pixels.
        classes: that the network has a score for.
        layer: name of the layer whose activations are looked at.
        cells: its height and width.
    """

    def __init__(self, network: keras.Model, layer: str | None = None) -> None:
        """Args:
        network: from images [batch, size, size, 3], uint8 or float, to a logit for each class [batch, classes].
        layer: of the network, with activations [batch, height, width, channels] that all paths to the scores go
            through; by default the last activation function whose cells see no more than `FIELD` of the image.

        Raises:
            ValueError: the network has no such layer, or another form.
        """
        inputs, outputs = getattr(network, "inputs", None), getattr(network, "outputs", None)
        if not inputs or not outputs or len(inputs) > 1 or len(outputs) > 1:
            raise ValueError("the network is not a graph from one input to one output")
        _, *shape = inputs[0].shape
        size, scores = shape[0] if shape else None, outputs[0].shape
        if size is None or shape != [size, size, CHANNELS] or len(scores) != 2:
            raise ValueError("the network does not go from square colour images to a score for each class")
        self.size: int = size
        self.classes: int = scores[1]
        for candidate in [network.get_layer(layer)] if layer else _candidates(network, self.size):
            try:
                self._body = keras.Model(inputs[0], candidate.output)
                self._head = keras.Model(candidate.output, outputs[0])
            except ValueError:  # a path goes around it, or it lies in a network within the network
                continue
            break
        else:
            raise ValueError("the network has no convolution that all of it goes through")
        self.layer: str = candidate.name
        self.cells: tuple[int, int] = candidate.output.shape[1:3]
        self._rows, self._columns = (
            between(self.size, count, *centres(network, candidate, axis)) for axis, count in enumerate(self.cells)
        )

    def __call__(self, images: np.ndarray, classes: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
        """Maps of some images, each scaled so that its largest value is 1; 0 where nothing speaks for the class.

        Args:
            images: uint8 [n, size, size, 3], as the network sees them.
            classes: int64 [m], a label for each map.
            of: int64 [m], the image of each map; by default m = n, and there is one of each.

        Returns:
            float32 [m, size, size] in 0 to 1.
        """
        activations = self.activations(images)
        if of is not None:
            activations = tf.gather(activations, of)
        products = activations * self.gradients(activations / 2, classes)
        return scaled(self.spread(tf.reduce_sum(tf.cast(products, tf.float32), axis=-1).numpy()))

    def activations(self, images: np.ndarray) -> tf.Tensor:
        """Of the layer, [n, height, width, channels], for images uint8 [n, size, size, 3]."""
        return self._body(tf.constant(images), training=False)

    def scores(self, activations: tf.Tensor) -> tf.Tensor:
        """Of all classes, [n, classes], from the activations of the layer."""
        return self._head(activations, training=False)

    def gradients(self, activations: tf.Tensor, classes: np.ndarray) -> tf.Tensor:
        """Of the log-odds of each image's class, int64 [n], by its activations [n, height, width, channels]."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(activations)
            value = log_odds(self.scores(activations), classes)
        return tape.gradient(value, activations)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """A value for each cell, [n, height, width], linearly in between: float32 [n, size, size].

        A cell lies at the centre of its receptive field, which after a few poolings is pixels away from where it
        would be if the cells divided the image evenly (Araujo et al. 2019).
        """
        return np.einsum("ih,nhw,jw->nij", self._rows, values, self._columns, optimize=True).astype(np.float32)


def log_odds(logits: tf.Tensor, classes: np.ndarray) -> tf.Tensor:
    """Logarithm of the probability of a class over that of all others, [n], of logits [n, classes], classes [n]."""
    own = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    others = tf.where(own, tf.constant(-np.inf, logits.dtype), logits)
    return tf.gather(logits, classes, batch_dims=1) - tf.reduce_logsumexp(others, axis=-1)


def scaled(maps: np.ndarray) -> np.ndarray:
    """Maps [n, height, width] without what is negative or not finite, each divided by its largest value."""
    positive = np.maximum(np.nan_to_num(maps, nan=0.0, posinf=0.0, neginf=0.0), 0)
    most = positive.max(axis=(1, 2), keepdims=True)
    return positive / np.where(most > 0, most, 1)


def _candidates(network: keras.Model, size: int) -> list[keras.layers.Layer]:
    """The layers to look at, the best first: activation functions that see little enough, the last before others."""
    found, convolved = [], False
    for layer in network.layers:
        convolved |= isinstance(layer, CONVOLUTIONS)
        shape = () if isinstance(layer, keras.Model) else getattr(layer.output, "shape", ())
        if convolved and len(shape) == 4 and None not in shape[1:]:
            found.append(layer)

    def sees_too_much(layer: keras.layers.Layer) -> bool:
        seen = _followed(network, layer, 0)
        return seen[2] > FIELD * size if seen else min(layer.output.shape[1:3]) < FEWEST_CELLS

    found.reverse()
    return sorted(found, key=lambda layer: (sees_too_much(layer), not _is_activation(layer)))


def _is_activation(layer: Any) -> bool:
    if isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
        return True
    return getattr(layer, "activation", None) not in (None, keras.activations.linear)


def centres(network: keras.Model, layer: keras.layers.Layer, axis: int) -> tuple[float, float]:
    """Where the cells of a layer lie along an axis of the image: that of cell 0, in pixels, and the step to the next.

    Where `_followed` cannot tell, the cells are taken to divide the image evenly.
    """
    found = _followed(network, layer, axis)
    if found:
        return found[:2]
    step = network.inputs[0].shape[1 + axis] / layer.output.shape[1 + axis]
    return (step - 1) / 2, step


def _followed(network: keras.Model, layer: keras.layers.Layer, axis: int) -> tuple[float, float, float] | None:
    """The receptive fields of a layer along an axis, in pixels: centre of the first, step to the next, and size.

    Followed back through convolutions, poolings and resizing; None where paths join, or where there is anything else
    that changes the size.
    """
    makers = {id(maker.output): maker for maker in network.layers}
    chain: list[Any] = []
    while not isinstance(layer, keras.layers.InputLayer):
        chain.append(layer)
        if isinstance(layer, keras.Model) or id(layer.input) not in makers:
            return None
        layer = makers[id(layer.input)]
    start, step, field = 0.0, 1.0, 1.0
    for part in reversed(chain):
        before, after = part.input.shape[1 + axis], part.output.shape[1 + axis]
        if isinstance(part, keras.layers.Resizing):
            ratio = before / after
            start, step = start + step * (ratio - 1) / 2, step * ratio
        elif isinstance(part, CONVOLUTIONS + POOLINGS):
            window = part.pool_size if isinstance(part, POOLINGS) else part.kernel_size
            stride = part.strides[axis]
            reach = (window[axis] - 1) * getattr(part, "dilation_rate", (1, 1))[axis]
            padding = max((after - 1) * stride + reach + 1 - before, 0) // 2 if part.padding == "same" else 0
            start, step, field = start + step * (reach / 2 - padding), step * stride, field + step * reach
        elif before != after:
            return None
    return start, step, field


def between(size: int, count: int, start: float, step: float) -> np.ndarray:
    """How much of each of `count` cells is in each of `size` pixels, float32 [size, count]; rows sum to 1."""
    place = np.clip((np.arange(size) - start) / step, 0, count - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count))).astype(np.float32)
