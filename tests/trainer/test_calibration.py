"""The temperature: found again where it is known, bounded where nothing is wrong, fitted on what is served."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from core.settings import Model
from trainer import calibration, export, model
from trainer.summary import DataSummary

SIZE = 8
SUMMARY = DataSummary(("cat", "dog", "ibis"), (1, 1, 1), (120.0, 110.0, 100.0), (3000.0, 2000.0, 1000.0), SIZE)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def loss(logits, labels, temperature):
    return -np.log(softmax(logits / temperature)[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(true):
    random = np.random.default_rng(0)
    logits = true * random.normal(0, 2, [20_000, 5])
    labels = (softmax(logits / true).cumsum(axis=1) < random.random([20_000, 1])).sum(axis=1)
    assert calibration.temperature(logits.astype(np.float32), labels) == pytest.approx(true, rel=0.05)


def test_no_other_temperature_has_a_lower_loss():
    random = np.random.default_rng(1)
    logits, labels = random.normal(0, 3, [5_000, 4]), random.integers(0, 4, 5_000)
    labels = np.where(random.random(5_000) < 0.8, logits.argmax(axis=1), labels)
    found = calibration.temperature(logits, labels)
    for other in (0.9, 0.98, 1.02, 1.1):
        assert loss(logits, labels, found) < loss(logits, labels, other * found)


@pytest.mark.parametrize("count", [10, 1000])
def test_where_all_is_right_the_answers_stay_as_unsure_as_so_many_examples_allow(count):
    labels = np.arange(count) % 3
    logits = 5.0 * np.eye(3)[labels]
    found = calibration.temperature(logits, labels)
    assert softmax(logits / found).max() == pytest.approx((count + 1) / (count + 2), abs=1e-3)


def test_nothing_to_fit_on_leaves_the_probabilities_as_they_are():
    assert calibration.temperature(np.zeros([0, 3], np.float32), np.zeros(0, np.int64)) == 1
    assert calibration.temperature(np.ones([4, 1], np.float32), np.zeros(4, np.int64)) == 1


@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_model_is_served_with_its_temperature_on_what_it_was_fitted_on(tmp_path, count):
    keras.utils.set_random_seed(1)
    network = model.build(Model(input_size=SIZE, width=0.1), 3, SIZE, SUMMARY.mean, SUMMARY.variance)
    pixels = np.random.default_rng(2).integers(0, 256, [5, SIZE, SIZE, 3], np.uint8)
    batches = [(pixels[:3], np.array([0, 1, 2])), (pixels[3:], np.array([1, 1]))]
    logits, labels = calibration.served_logits(network, batches, count)
    assert labels.tolist() == [0, 1, 2, 1, 1]
    export.export(network, SUMMARY, tmp_path / "model", view_count=count, temperature=0.5)
    assert json.loads((tmp_path / "model/assets.extra/calibration.json").read_text()) == {"temperature": 0.5}
    serve = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    answers = serve(images=tf.stack([tf.io.encode_png(image) for image in pixels]))
    np.testing.assert_allclose(answers["probabilities"], softmax(logits / 0.5), rtol=1e-4, atol=1e-6)
    assert answers["class_id"].numpy().tolist() == logits.argmax(axis=1).tolist()
    kept = keras.models.load_model(tmp_path / "model" / export.KERAS_FILE)
    np.testing.assert_array_equal(kept.predict_on_batch(pixels), network.predict_on_batch(pixels))
