"""The maps of the report's pictures, by a real network."""

import io

import keras
import numpy as np
import PIL.Image
import pytest
from image_data import encoded, picture

from components import saliency_maps
from core.settings import Model
from review.report import schema
from trainer import images, model, saliency

NAMES = ["cat", "dog", "ibis"]
SIZES = [(16, 16), (96, 40), (20, 30)]  # width, height


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(1)
    return model.build(Model(variant="cifar", input_size=16, width=0.1), 3, 16, (120.0,) * 3, (3000.0,) * 3)


def shown(count=8):
    """Pictures and their images; every third one is a mistake."""
    pictures, files = [], []
    for number in range(count):
        width, height = SIZES[number % 3]
        true = NAMES[number % 3]
        answer = NAMES[(number + (number % 3 == 0)) % 3]
        kind = "right" if answer == true else "mistake"
        about = {"file": f"{number:05d}.jpg", "id": f"{number}", "width": width, "height": height}
        pictures.append(schema.Picture(**about, true=true, top=[(answer, 0.9), (true, 0.1)], kind=kind))
        files.append(encoded(picture(number, (2 * height, 2 * width))))
    return pictures, files


def test_every_picture_has_a_map_and_a_mistake_has_two(network):
    pictures, files = shown()
    made, maps, about = saliency_maps.add(network, pictures, files, NAMES)
    assert (about.method, about.layer, about.cells) == (saliency.METHOD, "conv1_relu", (8, 8))
    for before, after in zip(pictures, made, strict=True):
        stem = before.file.removesuffix(".jpg")
        wrong = before.true != before.predicted
        expected = {"map": f"{stem}-map.png", "true_map": f"{stem}-true-map.png" if wrong else None}
        assert after == before.model_copy(update=expected)
        for file in filter(None, expected.values()):
            with PIL.Image.open(io.BytesIO(maps[file])) as opened:
                assert (opened.format, opened.size) == ("PNG", (after.width, after.height))
    assert len(maps) == len(pictures) + sum(picture.kind == "mistake" for picture in pictures)
    assert schema.Picture.model_validate_json(made[0].model_dump_json()) == made[0]


def test_a_map_is_that_of_its_class_and_of_the_pixels_that_the_network_saw(network):
    pictures, files = shown(1)
    _, maps, _ = saliency_maps.add(network, pictures, files, NAMES)
    heat = saliency.ClassMaps(network)(images.decode(files[0], 16)[None].numpy(), np.array([1, 0]), np.array([0, 0]))
    for file, expected in zip(("00000-map.png", "00000-true-map.png"), heat, strict=True):
        levels = np.asarray(PIL.Image.open(io.BytesIO(maps[file])))  # the places in the palette
        np.testing.assert_allclose(levels / 31, expected, atol=0.5 / 31 + 1e-6)
    assert np.abs(heat[0] - heat[1]).max() > 0.1


def test_the_pictures_may_come_in_several_batches(network, monkeypatch):
    whole = saliency_maps.add(network, *shown(), NAMES)
    monkeypatch.setattr(saliency_maps, "BATCH", 3)
    parts = saliency_maps.add(network, *shown(), NAMES)
    assert parts[0] == whole[0]
    assert list(parts[1]) == list(whole[1])


def test_a_class_that_the_network_does_not_know_has_no_map(network):
    pictures, files = shown(1)
    unknown = [pictures[0].model_copy(update={"true": "yak"})]
    ((made,), maps, _) = saliency_maps.add(network, unknown, files, [*NAMES, "yak"])
    assert (made.map, made.true_map) == ("00000-map.png", None)
    assert list(maps) == ["00000-map.png"]


def test_without_a_network_that_fits_the_pictures_stay_as_they_are(network):
    pictures, files = shown(2)
    image = keras.Input([16, 16, 3], dtype="uint8")
    dense = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))))
    for unfit in (None, dense):
        assert saliency_maps.add(unfit, pictures, files, NAMES) == (pictures, {}, None)
    assert saliency_maps.add(network, [], [], NAMES) == ([], {}, None)
