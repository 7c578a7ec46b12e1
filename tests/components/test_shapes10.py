"""The synthetic data set: the drawing is fixed and fair, and the TFDS builder stores exactly what is drawn."""

import hashlib
import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from components import shapes

GOLDEN = {  # SHA-256 of the first 100 pictures and labels; a change here is a new data set and a new VERSION
    "train": "4e82a531420ca8769d9996b752dea0a8887735c11b44a3b855fae5b69a303d8a",
    "test": "0273edabb5674474e587e22a419744abc299e1623923a244834e78e19ac822ab",
}


@pytest.fixture(scope="module")
def train():
    return shapes.draw(range(3_000), "train")


@pytest.fixture(scope="module")
def test():
    return shapes.draw(range(1_000), "test")


def flat(images):
    return images.reshape(len(images), -1).astype(np.float32)


def test_shapes_and_types(train):
    images, labels = train
    assert images.shape == (3_000, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.shape == (3_000,)
    assert labels.dtype == np.int64


def test_class_names_are_in_alphabetical_order():
    assert len(shapes.CLASSES) == 10
    assert list(shapes.CLASSES) == sorted(set(shapes.CLASSES))


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_are_the_recorded_ones(split):
    images, labels = shapes.draw(range(100), split)
    assert hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest() == GOLDEN[split]


def test_a_picture_does_not_depend_on_its_batch(train):
    images, labels = train
    for batch in (1, 7, 450):
        for start in (0, 1_234):
            some, some_labels = shapes.draw(range(start, start + batch))
            np.testing.assert_array_equal(some, images[start : start + batch])
            np.testing.assert_array_equal(some_labels, labels[start : start + batch])
    order = [2_999, 5, 5, 0]
    np.testing.assert_array_equal(shapes.draw(np.array(order))[0], images[order])


def test_masks_are_of_the_shapes(test):
    from scipy.ndimage import binary_fill_holes, label

    _, labels = test
    masks = shapes.masks(range(1_000), "test")
    assert (masks.shape, masks.dtype) == ((1_000, 32, 32), bool)
    np.testing.assert_array_equal(shapes.masks([7, 999, 7], "test"), masks[[7, 999, 7]])
    for mask, name in zip(masks, np.array(shapes.CLASSES)[labels], strict=True):
        parts, _ = label(mask, np.ones((3, 3)))
        assert np.bincount(parts[mask]).max() > 0.95 * mask.sum()  # the tip of a crescent may be a pixel by itself
        assert (binary_fill_holes(mask) != mask).any() == (name == "ring")


def test_a_shape_stands_out_where_its_mask_says(test):
    images, _ = test
    luma = images @ np.float32([0.299, 0.587, 0.114])
    masks = shapes.masks(range(1_000), "test")

    def gaps(inside):
        pairs = zip(luma, inside, strict=True)
        return np.array([abs(np.median(one[part]) - np.median(one[~part])) for one, part in pairs])

    assert (gaps(masks) > gaps(np.roll(masks, 8, axis=2))).mean() > 0.9


@pytest.mark.parametrize("count", [10, 1_500, 2_000, 12_000])
def test_classes_are_balanced_and_shuffled(count):
    labels = shapes.labels_of(range(count))
    assert set(np.bincount(labels, minlength=10)) == {count // 10}
    assert len({tuple(block) for block in labels.reshape(-1, 10)}) > 0.95 * count / 10


def test_pictures_all_differ(train, test):
    pictures = np.concatenate([train[0], test[0]])
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="no split 'validation'"):
        shapes.draw([0], "validation")
    with pytest.raises(ValueError, match="0 or more, not -1"):
        shapes.draw([0, -1])
    images, labels = shapes.draw([])
    assert images.shape == (0, 32, 32, 3)
    assert labels.shape == (0,)


def test_a_linear_model_does_not_solve_it(train, test):
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(flat(train[0]))
    model = SGDClassifier(loss="log_loss", alpha=0.01, max_iter=8, random_state=0).fit(
        scaler.transform(flat(train[0])), train[1]
    )
    accuracy = model.score(scaler.transform(flat(test[0])), test[1])
    assert 0.15 < accuracy < 0.6  # above chance (0.1), so there is something to learn; 0.30 or 0.31 with four seeds


def test_colours_alone_do_not_solve_it(train, test):
    from sklearn.ensemble import RandomForestClassifier

    def colours(images):
        bins = [(images // 32 == value).mean(axis=(1, 2)) for value in range(8)]
        return np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2)), *bins], axis=1)

    model = RandomForestClassifier(100, random_state=0).fit(colours(train[0]), train[1])
    assert model.score(colours(test[0]), test[1]) < 0.35  # 0.14 to 0.16 with four seeds


def test_drawing_needs_no_tensorflow():
    code = "import sys, components.shapes; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def builder_module():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return importlib.import_module("components.shapes10")  # takes seconds: only for the tests that need it


@pytest.fixture(scope="module")
def small(builder_module, tmp_path_factory):
    builder = builder_module.Shapes10(data_dir=tmp_path_factory.mktemp("data"), config="small")
    builder.download_and_prepare()
    return builder


def test_builder_describes_the_data(small):
    assert small.info.full_name == "shapes10/small/1.0.0"
    assert small.info.features["image"].shape == (32, 32, 3)
    assert tuple(small.info.features["label"].names) == shapes.CLASSES
    assert small.info.supervised_keys == ("image", "label")
    assert {name: split.num_examples for name, split in small.info.splits.items()} == {"train": 1_500, "test": 500}


@pytest.mark.parametrize(("split", "count"), [("train", 1_500), ("test", 500)])
def test_builder_stores_what_is_drawn(small, split, count):
    images, labels = shapes.draw(range(count), split)
    stored = list(small.as_dataset(split=split).as_numpy_iterator())
    assert {example["id"].decode() for example in stored} == {f"{split}-{index:05d}" for index in range(count)}
    for example in stored:
        index = int(example["id"].decode().rsplit("-", 1)[1])
        np.testing.assert_array_equal(example["image"], images[index])
        assert example["label"] == labels[index]


def test_configurations(builder_module, tmp_path):
    sizes = {
        config.name: (config.train_examples, config.test_examples)
        for config in builder_module.Shapes10.BUILDER_CONFIGS
    }
    assert sizes == {"default": (12_000, 2_000), "small": (1_500, 500)}
    assert builder_module.Shapes10(data_dir=tmp_path).builder_config.name == "default"
    with pytest.raises(ValueError, match="test_examples has to be at least 1, not 0"):
        builder_module.Shapes10Config(name="none", test_examples=0)


def test_any_number_of_examples(builder_module, tmp_path):
    config = builder_module.Shapes10Config(name="tiny", train_examples=25, test_examples=10)
    builder = builder_module.Shapes10(data_dir=tmp_path, config=config)
    builder.download_and_prepare()
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 25, "test": 10}
