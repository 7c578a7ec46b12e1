"""The network and its augmentation."""

import ast
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from core.settings import Model
from trainer import augmentation, model
from trainer.batch_norm import FusedBatchNormalization

TINY = {"variant": "cifar", "input_size": 8, "width": 0.1}


def paper(classes, **settings):
    settings = {"variant": "paper", "input_size": 227, "width": 1, "normalization": "lrn", **settings}
    return model.build(Model(**settings), classes, image_size=227)


def random_images(count=4, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def published():
    return paper(10)


def test_parameters_with_ten_classes_are_those_counted_by_hand(published):
    convolutions = (
        (11 * 11 * 3 + 1) * 96
        + (5 * 5 * 96 + 1) * 256
        + (3 * 3 * 256 + 1) * 384
        + (3 * 3 * 384 + 1) * 384
        + (3 * 3 * 384 + 1) * 256
    )
    dense = (6 * 6 * 256 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 10
    assert published.count_params() == convolutions + dense == 58_322_314


@pytest.mark.parametrize(("groups", "parameters"), [(1, 62_378_344), (2, 60_965_224)])
def test_parameters_with_1000_classes_are_those_of_the_paper(groups, parameters):
    assert paper(1000, groups=groups).count_params() == parameters


def test_layers_have_the_shapes_of_the_paper(published):
    shapes = {
        name: published.get_layer(name).output.shape[1:]
        for name in ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "logits")
    }
    assert shapes == {
        "conv1": (55, 55, 96),
        "pool1": (27, 27, 96),
        "conv2": (27, 27, 256),
        "pool2": (13, 13, 256),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 384),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
        "fc6": (4096,),
        "fc7": (4096,),
        "logits": (10,),
    }


@pytest.mark.parametrize("normalization", ["batch", "lrn", "none"])
def test_the_small_variant_takes_images_of_another_size(normalization):
    network = model.build(Model(**TINY, normalization=normalization, groups=2), 3, image_size=12)
    logits = network(random_images(size=12))
    assert logits.shape == (4, 3)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert network.get_layer("conv1").output.shape[1:3] == (8, 8)
    kinds = {type(layer) for layer in network.layers}
    assert (keras.layers.BatchNormalization in kinds) == (normalization == "batch")
    assert (model.LocalResponseNormalization in kinds) == (normalization == "lrn")


def test_width_scales_filters_to_multiples_of_sixteen():
    network = model.build(Model(variant="cifar", width=0.3), 10, image_size=32)
    filters = [layer.filters for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert filters == [32, 80, 112, 112, 80]  # of 96 256 384 384 256: 28.8 76.8 115.2 115.2 76.8


def trained_once(layer, values, weights):
    """Result, gradients and moving statistics of one step in training."""
    layer.build(values.shape)
    layer.gamma.assign(np.linspace(0.5, 2, values.shape[-1]))
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = layer(values, training=True)
        loss = tf.reduce_sum(result * weights)
    gradients = tape.gradient(loss, [values, layer.gamma.value, layer.beta.value])
    return [np.asarray(part) for part in (result, *gradients, layer.moving_mean, layer.moving_variance)]


def test_fused_batch_normalization_does_what_keras_does():
    random = np.random.default_rng(0)
    values, weights = (tf.constant(random.normal(1, 3, (16, 8, 8, 16)), tf.float32) for _ in range(2))
    plain = keras.layers.BatchNormalization(momentum=0.9)
    fused = FusedBatchNormalization(momentum=0.9)
    for wanted, found in zip(trained_once(plain, values, weights), trained_once(fused, values, weights), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-3)  # a variance of 1,024 values: n - 1 for n
    np.testing.assert_allclose(fused(values), plain(values), rtol=1e-3, atol=1e-3)


def test_a_network_to_train_has_the_weights_of_one_to_keep():
    to_train = model.build(Model(**TINY), 3, 8, to_train=True)
    kept = model.build(Model(**TINY), 3, 8)
    kept.set_weights(to_train.get_weights())
    wanted, found = (np.asarray(network(random_images())) for network in (kept, to_train))
    # Some hundred roundings of float32, of the largest: a logit near 0 is a difference of larger numbers.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert any(isinstance(layer, FusedBatchNormalization) for layer in to_train.layers)
    assert {type(layer).__module__.split(".")[0] for layer in kept.layers} == {"keras"}


def test_the_settings_say_which_convolutions_are_pooled():
    network = model.build(Model(width=0.2, pools=(2, 4)), 10, 32)
    assert [layer.name for layer in network.layers if layer.name.startswith("pool")] == ["pool2", "pool4"]
    assert network.get_layer("conv2").output.shape[1:3] == (32, 32)
    assert network.get_layer("flatten").input.shape[1:3] == (8, 8)
    assert model.build(Model(variant="paper", input_size=67, width=0.1, pools=(3, 4, 5)), 2, 67).output.shape == (
        None,
        2,
    )


def test_with_batch_normalization_the_network_pools_first():
    order = [layer.name for layer in model.build(Model(**TINY), 3, 8).layers]
    assert order.index("pool1") < order.index("conv1_bn") < order.index("conv1_relu")
    order = [layer.name for layer in model.build(Model(**TINY, normalization="lrn"), 3, 8).layers]
    assert order.index("conv1_relu") < order.index("norm1") < order.index("pool1")


def test_pixels_are_normalized_with_the_given_statistics():
    mean, variance = (10.0, 100.0, 200.0), (4.0, 100.0, 2500.0)
    network = model.build(Model(**TINY), 3, 8, mean, variance)
    inner = keras.Model(network.input, network.get_layer("normalize").output)
    images = random_images()
    np.testing.assert_allclose(inner(images), (images - np.array(mean)) / np.sqrt(variance), rtol=1e-5, atol=1e-5)


def test_response_normalization_follows_the_formula_of_the_paper():
    n, k, alpha, beta = 5, 2.0, 0.1, 0.75  # a large alpha, so that the sum matters
    values = np.random.default_rng(0).normal(size=(2, 3, 3, 8)).astype(np.float32)
    expected = np.empty_like(values)
    for i in range(8):
        near = values[..., max(0, i - n // 2) : min(7, i + n // 2) + 1]
        expected[..., i] = values[..., i] / (k + alpha * np.sum(near**2, axis=-1)) ** beta
    layer = model.LocalResponseNormalization(n, k, alpha, beta)
    np.testing.assert_allclose(layer(values), expected, rtol=1e-5)
    published = model.LocalResponseNormalization()
    assert (published.n, published.k, published.alpha, published.beta) == (5, 2, 1e-4, 0.75)


def test_a_saved_network_comes_back_the_same(tmp_path):
    network = model.build(Model(**TINY, normalization="lrn", groups=2), 3, 12, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.to_json() == network.to_json()
    found, wanted = (np.asarray(one(random_images(size=12))) for one in (loaded, network))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())  # whatever the order of sums


def shifted(image, rows, columns):
    """The image moved by that many pixels, the missing part reflected."""
    height, width, _ = image.shape
    padded = np.pad(image, [(abs(rows), abs(rows)), (abs(columns), abs(columns)), (0, 0)], mode="reflect")
    top, left = abs(rows) + rows, abs(columns) + columns
    return padded[top : top + height, left : left + width]


def changes(images, changed, shift):
    """For each image the (flipped, rows, columns) that explain what became of it."""
    found = []
    for image, result in zip(images, changed, strict=True):
        candidates = [
            (flip, rows, columns)
            for flip in (False, True)
            for rows in range(-shift, shift + 1)
            for columns in range(-shift, shift + 1)
            if np.array_equal(shifted(image[:, ::-1] if flip else image, rows, columns), result)
        ]
        assert len(candidates) == 1
        found += candidates
    return found


def test_augmentation_does_nothing_outside_training():
    images = random_images()
    layer = augmentation.FlipAndShift(flip=True, shift=2, seed=1)
    np.testing.assert_array_equal(layer(images), images)
    np.testing.assert_array_equal(layer(images, training=False), images)


def test_augmentation_makes_every_flip_and_shift():
    images = random_images(200, 8)
    changed = np.asarray(augmentation.FlipAndShift(flip=True, shift=2, seed=1)(images, training=True))
    assert changed.dtype == np.uint8
    flips, rows, columns = zip(*changes(images, changed, 2), strict=True)
    assert 70 < sum(flips) < 130
    assert set(rows) == set(columns) == {-2, -1, 0, 1, 2}
    assert rows != columns


def test_augmentation_without_flip_or_shift():
    images = random_images(50, 8)
    only_shift = augmentation.FlipAndShift(flip=False, shift=1, seed=1)(images, training=True)
    assert {flip for flip, _, _ in changes(images, np.asarray(only_shift), 1)} == {False}
    only_flip = np.asarray(augmentation.FlipAndShift(flip=True, shift=0, seed=1)(images, training=True))
    assert {flip for flip, _, _ in changes(images, only_flip, 0)} == {False, True}
    neither = augmentation.FlipAndShift(flip=False, shift=0, seed=1)(images, training=True)
    np.testing.assert_array_equal(neither, images)


def test_cutout_covers_one_square_of_the_mean_colour():
    images = random_images(200, 12)
    layer = augmentation.Cutout(5, colour=(44, 7, 9), seed=1)
    np.testing.assert_array_equal(layer(images), images)
    changed = np.array(layer(images, training=True))
    assert changed.dtype == np.uint8
    sizes = set()
    for image, result in zip(images, changed, strict=True):
        rows, columns = np.nonzero((image != result).any(axis=-1))
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        assert (result[top:bottom, left:right] == (44, 7, 9)).all()
        sizes |= {bottom - top, right - left}
        result[top:bottom, left:right] = image[top:bottom, left:right]
        np.testing.assert_array_equal(result, image)
    assert max(sizes) == 5  # whole
    assert min(sizes) == 3  # cut by the edge, with the centre still inside
    np.testing.assert_array_equal(augmentation.Cutout(0)(images, training=True), images)


def parts(images, changed):
    """Of pictures whose red is 4 times the row and green 4 times the column: first row and column, and shares."""
    red, green = changed[..., 0].astype(float) / 4, changed[..., 1].astype(float) / 4
    down, right = (red[:, 48, 20] - red[:, 16, 20]) / 32, (green[:, 20, 48] - green[:, 20, 16]) / 32
    return red[:, 16, 20] - 16.5 * down + 0.5, green[:, 20, 16] - 16.5 * right + 0.5, down, right


def test_a_random_crop_is_a_part_of_the_image():
    side = 64
    rows, columns = np.mgrid[:side, :side]
    images = np.repeat(np.stack([4 * rows, 4 * columns, 0 * rows], axis=-1).astype(np.uint8)[None], 300, axis=0)
    changed = np.asarray(augmentation.RandomCrop(0.3, seed=1)(images, training=True))
    assert changed.dtype == np.uint8
    assert changed.shape == images.shape
    top, left, down, right = parts(images, changed)
    fuzzy = 0.25 / 32  # two values that are rounded to a quarter of a pixel
    area, ratio = down * right, right / down
    assert area.min() > 0.3 - 2 * fuzzy
    assert area.max() <= 1 + 2 * fuzzy
    assert area.min() < 0.35
    assert area.max() > 0.95
    assert 3 / 4 - 4 * fuzzy < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 4 / 3 + 4 * fuzzy
    for start, share in ((top, down), (left, right)):
        assert start.min() > -0.5
        assert (start + share * side).max() < side + 0.5
        free = side * (1 - share) > 5
        place = start[free] / (side * (1 - share[free]))  # 0 at one end, 1 at the other
        assert place.min() < 0.1
        assert place.max() > 0.9
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.95  # or the ratio would be none of its own


def test_a_random_crop_of_everything_changes_nothing():
    images = random_images(20, 8)
    layer = augmentation.RandomCrop(0.3)
    np.testing.assert_array_equal(layer(images), images)
    np.testing.assert_array_equal(layer(images, training=False), images)
    np.testing.assert_array_equal(augmentation.RandomCrop(1)(images, training=True), images)
    np.testing.assert_array_equal(augmentation.RandomCrop(1 - 1e-7)(images, training=True), images)
    once, again = (np.asarray(augmentation.RandomCrop(0.3, 7)(images, training=True)) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_augmentation_depends_on_the_seed_alone():
    images = random_images(50, 8)

    def twice(seed):
        layer = augmentation.FlipAndShift(seed=seed)
        return [np.asarray(layer(images, training=True)) for _ in range(2)]

    np.testing.assert_array_equal(twice(seed=1), twice(seed=1))
    assert not np.array_equal(twice(seed=1)[0], twice(seed=2)[0])
    assert not np.array_equal(*twice(seed=1))


@pytest.mark.parametrize("name", ["model", "augmentation", "optimization", "metrics", "recipe"])
def test_no_backend_is_named(name):
    source = pathlib.Path(model.__file__).with_name(f"{name}.py").read_text()
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
    assert not {module for module in modules if module.split(".")[0] in ("tensorflow", "jax", "torch", "tfx")}
