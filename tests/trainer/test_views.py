"""Views of an image, whose logits a served model averages."""

import keras
import numpy as np
import pytest
from PIL import Image

from trainer import views

SIZE = 5


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(1).integers(0, 256, [2, SIZE, SIZE, 3], dtype=np.uint8)


def seen(pictures, count):
    return [keras.ops.convert_to_numpy(view) for view in views.seen(pictures, count)]


@pytest.mark.parametrize("count", [1, 2, 6])
def test_every_view_is_like_the_image(pictures, count):
    found = seen(pictures, count)
    assert len(found) == count
    assert {(view.shape, view.dtype) for view in found} == {(pictures.shape, pictures.dtype)}
    assert len({view.tobytes() for view in found}) == count
    np.testing.assert_array_equal(found[0], pictures)


def test_two_views_are_the_image_and_its_mirror_image(pictures):
    mirrored = [
        np.asarray(Image.fromarray(picture).transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for picture in pictures
    ]
    np.testing.assert_array_equal(seen(pictures, 2)[1], mirrored)


def test_six_views_are_three_places_and_their_mirror_images(pictures):
    _, first, second, *mirrored = seen(pictures, 6)
    np.testing.assert_array_equal(first[:, 1:, 1:], pictures[:, :-1, :-1])
    np.testing.assert_array_equal(first[:, 0, 1:], pictures[:, 1, :-1])  # reflected in
    np.testing.assert_array_equal(second[:, :-1, :-1], pictures[:, 1:, 1:])
    np.testing.assert_array_equal(second[:, -1, :-1], pictures[:, -2, 1:])
    for view, other in zip([pictures, first, second], mirrored, strict=True):
        np.testing.assert_array_equal(view[:, :, ::-1], other)
