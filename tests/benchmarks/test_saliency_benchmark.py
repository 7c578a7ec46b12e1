"""What the benchmark of the maps counts, and that each of its methods is what its paper says."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import report, saliency
from trainer.saliency import ClassMaps

SIZE = 8


@pytest.fixture(scope="module")
def network():
    """A convolution and a dense layer, with known random weights."""
    keras.utils.set_random_seed(2)
    image = keras.Input([SIZE, SIZE, 3], dtype="uint8")
    x = layers.Rescaling(1 / 255, name="normalize")(image)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    return keras.Model(image, layers.Dense(3, bias_initializer="ones", name="logits")(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def seen(network):
    """Maps of the network, activations of four images, classes, and the dense layer's weights by cell and channel."""
    maps = ClassMaps(network, "conv")
    images = np.random.default_rng(0).integers(0, 256, [4, SIZE, SIZE, 3], dtype=np.uint8)
    kernel = network.get_layer("logits").kernel.numpy().reshape(SIZE, SIZE, 4, 3)
    classes = np.array([0, 1, 2, 1])
    return maps, maps.activations(images), classes, np.moveaxis(kernel, 3, 0)[classes]


def test_behind_one_layer_the_methods_are_what_can_be_written_down(seen):
    maps, activations, classes, weights = seen
    values = activations.numpy()
    mean = weights.mean(axis=(1, 2), keepdims=True)
    for method, expected in (
        (saliency.grad_cam(saliency.logit), (mean * values).sum(axis=-1)),
        (saliency.hires_cam(saliency.logit), (weights * values).sum(axis=-1)),
        (saliency.layer_cam, (np.maximum(weights, 0) * values).sum(axis=-1)),
        (saliency.gradient, np.abs(weights).max(axis=-1)),
        (saliency.occlusion(1, 1, saliency.logit), (weights * values).sum(axis=-1)),
        (saliency.integrated(1, saliency.logit), (weights * values).sum(axis=-1)),
        (saliency.integrated(3, saliency.logit), (weights * values).sum(axis=-1)),
    ):
        np.testing.assert_allclose(method(maps, activations, classes), expected, rtol=1e-3, atol=1e-5)


def test_a_wider_square_hides_its_neighbours_too(seen):
    maps, activations, classes, weights = seen
    cells = np.pad((weights * activations.numpy()).sum(axis=-1), [(0, 0), (1, 1), (1, 1)])
    expected = sum(cells[:, row : row + SIZE, column : column + SIZE] for row in range(3) for column in range(3))
    made = saliency.occlusion(3, 1, saliency.logit)(maps, activations, classes)
    np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-5)


def test_maps_are_judged_by_where_they_are_hottest_and_how_much_lies_there():
    masks = np.zeros([4, 12, 12], bool)
    masks[:, 4:7, 4:7] = True
    maps = np.zeros([4, 12, 12])
    maps[0, 5, 5], maps[0, 0, 0] = 3, 1  # on it, with three quarters of the heat
    maps[1, 8, 5] = 1  # two pixels below it
    maps[2, 8, 8] = 1  # two below and two beside it: 2.8 away
    found = saliency.judge(maps, masks, np.array([0, 0, 0, 1]))  # the last one has no heat
    assert found == {
        "pointing": pytest.approx((2 / 3 + 0) / 2),
        "hottest": 0.25,
        "apart": 0.0,  # of none, for it is in the middle of all
        "heat": pytest.approx(0.75 / 4),
        "nothing": 0.25,
    }


def test_maps_are_alike_by_the_order_of_their_pixels():
    random = np.random.default_rng(0).random([3, 10, 10])
    assert saliency.likeness(random, random**3) == pytest.approx(1)
    assert saliency.likeness(random, -random) == pytest.approx(-1)
    other = np.concatenate([random[:1], np.zeros([2, 10, 10])])
    assert saliency.likeness(random, other) == pytest.approx(1)  # where there is nothing, there is no order


def test_what_it_writes_is_what_it_measured(tmp_path, monkeypatch, capsys):
    chosen = [("gradient (Simonyan et al. 2014)", "normalize"), (saliency.INTEGRATED, "conv3_relu")]
    monkeypatch.setattr(saliency, "CASES", {case: saliency.CASES[case] for case in chosen})
    target = tmp_path / "results" / "saliency.json"
    target.parent.mkdir()
    small = ["--images", "300", "--set", "training.epochs=1", "--set", "model.width=0.1"]
    saliency.main([*small, "--seeds", "1", "2", "--costs", "--json", str(target)])
    made = json.loads(target.read_text())
    rows = made["tables"][0]["rows"]
    assert [tuple(row[:2]) for row in rows[-2:]] == chosen
    mean = np.mean([found["cases"][-1]["pointing"] for found in made["found"]])
    assert rows[-1][2] == f"{100 * mean:.1f} %"
    assert "300 test pictures of shapes10" in capsys.readouterr().out
    report.main([str(target.parent), "--output", str(tmp_path / "docs")])
    assert f"| {saliency.INTEGRATED} | conv3_relu |" in (tmp_path / "docs" / report.PAGE).read_text()


def test_the_cost_is_of_the_maps_of_a_report():
    made = saliency.cost_here("shapes10", 5)
    assert (made["maps"], made["layer"]) == (8, "conv3_relu")  # three of five are mistakes
    assert made["processor"] > 0
    row = saliency.cost_table({"pictures": 5, "costs": {"shapes10": made}})["rows"][0]
    assert row[:4] == ["shapes10", "conv3_relu", "8 x 8", "8"]
