"""Maps of where a network sees what speaks for a class, on networks of which that is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.ndimage import binary_dilation

from core.settings import Model
from trainer import model, saliency

SIZE = 16


def corners():
    """A network for which class 0 is how red the first quarter is, and class 1 how red the last one is."""
    image = keras.Input([SIZE, SIZE, 3], dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(2, 1, activation="relu", name="seen")(x)
    network = keras.Model(image, layers.Dense(2, name="logits")(layers.Flatten()(x)))
    kernel = np.zeros([1, 1, 3, 2], np.float32)
    kernel[0, 0, 0, 0] = 1  # the other channel sees nothing
    weights = np.zeros([SIZE, SIZE, 2, 2], np.float32)
    weights[: SIZE // 2, : SIZE // 2, 0, 0] = 1
    weights[SIZE // 2 :, SIZE // 2 :, 0, 1] = 1
    weights[:, :, 1] = 5
    network.get_layer("seen").set_weights([kernel, np.zeros(2)])
    network.get_layer("logits").set_weights([weights.reshape(-1, 2), np.array([0.5, -0.5])])
    return network


def noise(count, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(1, 256, [count, size, size, 3], dtype=np.uint8)


def test_a_map_is_hot_where_the_weights_are_and_nowhere_else():
    images = noise(5)
    for label, place in enumerate([np.s_[:, :8, :8], np.s_[:, 8:, 8:]]):
        maps = saliency.ClassMaps(corners())(images, np.full(5, label))
        expected = np.zeros([5, SIZE, SIZE])
        expected[place] = images[..., 0][place]
        np.testing.assert_allclose(maps, expected / expected.max(axis=(1, 2), keepdims=True), rtol=1e-5)
        assert maps.dtype == np.float32
        np.testing.assert_array_equal(maps.max(axis=(1, 2)), 1)


def stripes():
    """A network for which class 0 is how many upright edges there are, and class 1 how many level ones."""
    image = keras.Input([32, 32, 3], dtype="uint8")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(2, 3, padding="same", activation="relu", name="edges")(x)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="further")(x)
    network = keras.Model(image, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x)))
    upright = np.repeat(np.array([[1, 0, -1]] * 3, np.float32)[:, :, None], 3, axis=2)
    network.get_layer("edges").set_weights([np.stack([upright, upright.transpose(1, 0, 2)], axis=3), np.zeros(2)])
    further = np.zeros([3, 3, 2, 4], np.float32)
    further[1, 1, 0, :2] = further[1, 1, 1, 2:] = 1
    network.get_layer("further").set_weights([further, np.zeros(4)])
    network.get_layer("logits").set_weights([np.float32([[2, -1], [1, -1], [-1, 1], [-1, 2]]), np.zeros(2)])
    return network


def striped():
    """Black images with an upright and a level pattern, and masks of both, [n, 2, 32, 32]."""
    random = np.random.default_rng(3)
    images = np.zeros([20, 32, 32, 3], np.uint8)
    masks = np.zeros([20, 2, 32, 32], bool)
    pattern = np.where(np.arange(8) // 2 % 2, 255, 0).astype(np.uint8)
    for image, (upright, level) in zip(images, masks, strict=True):
        top, left, other = random.integers(2, [22, 6, 6])
        first, second = np.s_[top : top + 8, left : left + 8], np.s_[top : top + 8, 14 + other : 22 + other]
        image[first], image[second] = pattern[None, :, None], pattern[:, None, None]
        upright[first], level[second] = True, True
    return images, masks


def test_a_map_points_at_what_its_class_is_made_of():
    images, masks = striped()
    masks = binary_dilation(masks, np.ones([1, 1, 3, 3]))  # an edge is between two pixels
    assert not masks.all(axis=1).any()
    maps = saliency.ClassMaps(stripes())
    for label in (0, 1):
        made = maps(images, np.full(len(images), label))
        hottest = made.reshape(len(made), -1).argmax(axis=1)
        assert masks[:, label].reshape(len(made), -1)[np.arange(len(made)), hottest].all()


def test_maps_follow_the_weights():
    """The sanity check of Adebayo et al. 2018: other weights, other maps."""
    images, _ = striped()
    network = stripes()
    labels = np.arange(len(images)) % 2
    before = saliency.ClassMaps(network)(images, labels)
    kernel, bias = network.get_layer("logits").get_weights()
    network.get_layer("logits").set_weights([kernel[:, ::-1], bias])
    np.testing.assert_allclose(saliency.ClassMaps(network)(images, 1 - labels), before, atol=1e-6)
    for name in ("logits", "further", "edges"):  # from the top downwards
        random = np.random.default_rng(1)
        layer = network.get_layer(name)
        layer.set_weights([random.normal(size=weight.shape) for weight in layer.get_weights()])
        after = saliency.ClassMaps(network)(images, labels)
        assert np.abs(after - before).max(axis=(1, 2)).min() > 0.05
        before = after


def test_with_one_layer_behind_it_a_map_adds_up_to_the_log_odds():
    """Completeness (Sundararajan et al. 2017)."""
    network = corners()
    maps = saliency.ClassMaps(network)
    images, labels = noise(6), np.array([0, 1] * 3)
    activations = maps.activations(images)
    sums = tf.reduce_sum(activations * maps.gradients(activations / 2, labels), axis=(1, 2, 3))
    logits, bias = network(images).numpy(), network.get_layer("logits").bias.numpy()
    expected = (logits - bias)[np.arange(6), labels] - (logits - bias)[np.arange(6), 1 - labels]
    np.testing.assert_allclose(sums, expected, rtol=1e-4)


def test_the_log_odds_are_those_of_the_softmax():
    logits = np.random.default_rng(1).normal(size=[5, 3]).astype(np.float32) * 4
    classes = np.array([0, 1, 2, 0, 1])
    own = tf.nn.softmax(logits).numpy()[np.arange(5), classes].astype(np.float64)
    np.testing.assert_allclose(saliency.log_odds(tf.constant(logits), classes), np.log(own / (1 - own)), rtol=1e-3)


def test_an_image_may_have_several_maps():
    images = noise(3)
    maps = saliency.ClassMaps(corners())
    several = maps(images, np.array([1, 0, 1]), np.array([2, 0, 0]))
    one = [maps(images[[of]], np.array([label]))[0] for label, of in ((1, 2), (0, 0), (1, 0))]
    np.testing.assert_allclose(several, one, atol=1e-6)


def test_what_speaks_against_a_class_or_is_no_number_is_nothing():
    network = corners()
    kernel, bias = network.get_layer("logits").get_weights()
    for worse in (np.abs(kernel) * [0, 1], np.full_like(kernel, np.nan)):
        network.get_layer("logits").set_weights([worse, bias])
        np.testing.assert_array_equal(saliency.ClassMaps(network)(noise(2), np.zeros(2, int)), 0)


# Which layer, and where its cells are


def test_a_cell_lies_in_the_middle_of_what_it_sees():
    """Along each axis, of chains whose receptive fields are found by differentiation."""
    chains = {
        "valid": [layers.Conv2D(1, 5, strides=2, use_bias=False), layers.AveragePooling2D(3, 2)],
        "same, even": [layers.Conv2D(1, 3, strides=2, padding="same"), layers.AveragePooling2D(3, 2, padding="same")],
        "dilated": [layers.Conv2D(1, 3, dilation_rate=2), layers.Conv2D(1, (1, 5), padding="same")],
        "two by two": [layers.AveragePooling2D(2), layers.AveragePooling2D(2), layers.Conv2D(1, 3)],
        "each by itself": [layers.DepthwiseConv2D(3, strides=2), layers.BatchNormalization()],
        "resized": [layers.Resizing(40, 40), layers.Conv2D(1, 3, strides=2)],
    }
    for name, chain in chains.items():
        image = x = keras.Input([32, 32, 3])
        for layer in chain:
            x = layer(x)
        network = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
        for part in chain:
            part.set_weights([np.ones_like(weight) for weight in part.get_weights()])
        body = keras.Model(image, x)
        pixels = tf.Variable(tf.ones([1, 32, 32, 3]))
        for axis in (0, 1):
            start, step = saliency.centres(network, chain[-1], axis)
            for cell in range(2, x.shape[1 + axis] - 2):  # those that see nothing beyond the edge
                with tf.GradientTape() as tape:
                    seen = tf.gather(body(pixels), cell, axis=1 + axis)
                    value = tf.reduce_sum(seen)
                share = tf.reduce_sum(tape.gradient(value, pixels), axis=[0, 2 - axis, 3]).numpy()
                middle = share @ np.arange(32) / share.sum()
                assert middle == pytest.approx(start + cell * step, abs=1e-3), (name, axis, cell)
                if name != "resized":  # which sees parts of pixels
                    assert saliency._followed(network, chain[-1], axis)[2] == np.ptp(np.flatnonzero(share)) + 1


@pytest.mark.parametrize("variant", ["padded", "nested", "joined"])
def test_where_cells_cannot_be_followed_they_divide_the_image_evenly(variant):
    image = x = keras.Input([32, 32, 3])
    if variant == "padded":
        x = layers.ZeroPadding2D(2)(x)
    elif variant == "joined":
        x = layers.Concatenate()([layers.Conv2D(2, 1)(x), layers.Conv2D(2, 1)(x)])
    else:
        inner = keras.Input([32, 32, 3])
        x = keras.Model(inner, layers.Conv2D(2, 3, padding="same")(inner))(x)
    x = layers.Conv2D(2, 3, strides=4, name="last")(x)
    network = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    count = network.get_layer("last").output.shape[1]
    start, step = saliency.centres(network, network.get_layer("last"), 0)
    assert (step, 2 * start + (count - 1) * step) == (32 / count, 31)


def test_values_between_cells_are_linear_and_the_same_beyond_the_last():
    weights = saliency.between(10, 3, 1.5, 3.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights @ [0, 3, 6], np.clip(np.arange(10) - 1.5, 0, 6))


@pytest.mark.parametrize(
    ("settings", "size", "layer", "cells"),
    [
        ({"variant": "cifar", "input_size": 32}, 32, "conv3_relu", 8),
        ({"variant": "cifar", "input_size": 32, "normalization": "lrn"}, 32, "conv3_relu", 8),
        ({"variant": "cifar", "input_size": 32, "pools": [2, 3, 5]}, 32, "conv3_relu", 8),
        ({"variant": "cifar", "input_size": 32, "pools": [2, 4, 5]}, 32, "conv4_relu", 8),
        ({"variant": "cifar", "input_size": 32, "pools": []}, 32, "conv5_relu", 32),
        ({"variant": "cifar", "input_size": 16}, 16, "conv1_relu", 8),
        ({"variant": "paper", "input_size": 227}, 32, "conv4_relu", 13),
        ({"variant": "paper", "input_size": 227, "normalization": "none"}, 227, "conv4_relu", 13),
    ],
)
def test_the_layer_of_an_alexnet_is_the_last_activation_that_sees_a_part_of_the_image(settings, size, layer, cells):
    network = model.build(Model(width=0.1, **settings), 3, size)
    maps = saliency.ClassMaps(network)
    assert (maps.layer, maps.cells, maps.size, maps.classes) == (layer, (cells, cells), size, 3)
    made = maps(noise(2, size), np.array([0, 2]))
    assert made.shape == (2, size, size)
    assert np.isfinite(made).all()


def test_the_maps_of_a_symmetric_network_are_in_the_middle():
    network = model.build(Model(variant="paper", input_size=227, width=0.1), 2, 227)
    start, step = saliency.centres(network, network.get_layer("conv4_relu"), 0)
    assert (start, step) == (17, 16)
    assert start + 12 * step == 226 - start


def test_a_layer_that_all_paths_go_through_is_found_where_others_are_gone_around():
    image = keras.Input([32, 32, 3])
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="stem")(image)
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="beside")(x)
    x = layers.Add(name="joined")([x, y])
    maps = saliency.ClassMaps(keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))
    assert maps.layer in ("stem", "joined")
    assert maps(noise(2, 32), np.array([0, 1])).shape == (2, 32, 32)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def unfit(shape, *more):
    image = x = keras.Input(shape)
    for layer in more:
        x = layer(x)
    return keras.Model(image, x)


def two_inputs():
    images = [keras.Input([8, 8, 3]), keras.Input([8, 8, 3])]
    return keras.Model(images, layers.Flatten()(layers.Conv2D(2, 3)(layers.Add()(images))))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: unfit([8, 8, 3], layers.Flatten(), layers.Dense(2)), "no convolution"),
        (lambda: unfit([8, 8, 1], layers.Conv2D(2, 3), layers.Flatten()), "square colour images"),
        (lambda: unfit([8, 9, 3], layers.Conv2D(2, 3), layers.Flatten()), "square colour images"),
        (lambda: unfit([None, None, 3], layers.Conv2D(2, 3), layers.GlobalMaxPooling2D()), "square colour images"),
        (lambda: unfit([8, 8, 3], layers.Conv2D(2, 3)), "square colour images"),
        (lambda: unfit([5], layers.Dense(2)), "square colour images"),
        (Subclassed, "graph from one input"),
        (two_inputs, "graph from one input"),
        (lambda: unfit([8, 8, 3], unfit([8, 8, 3], layers.Conv2D(2, 3)), layers.Flatten()), "no convolution"),
    ],
)
def test_of_other_networks_no_map_can_be_made(network, words):
    with pytest.raises(ValueError, match=words):
        saliency.ClassMaps(network())
