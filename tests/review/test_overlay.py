"""Maps as transparent pictures."""

import io
import re

import matplotlib
import numpy as np
import PIL.Image
import pytest
from matplotlib.colors import to_hex

from review.report import overlay, web
from trainer import images


def opened(content):
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGBA")).astype(float)


def test_a_map_grows_lighter_from_dark_to_yellow_and_hides_nothing():
    pixels = opened(overlay.png(np.tile(np.linspace(0, 1, 64), (8, 1)), 64, 8))
    luma = pixels[0, :, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) >= 0).all()
    assert luma[0] < 5
    assert luma[-1] > 230
    assert set(pixels[..., 3].ravel()) == {round(255 * overlay.OPACITY)}
    assert len({tuple(colour) for colour in pixels[0]}) == overlay.LEVELS


@pytest.mark.parametrize("size", [(32, 32), (96, 54), (7, 11)])
def test_a_map_has_the_size_of_its_picture_and_its_hottest_place(size):
    heat = np.zeros([32, 32], np.float32)
    heat[4:12, 20:28] = 1
    pixels = opened(overlay.png(heat, *size))
    assert pixels.shape == (size[1], size[0], 4)
    row, column = np.unravel_index(pixels[..., 1].argmax(), pixels.shape[:2])
    assert 3 / 32 <= (row + 0.5) / size[1] <= 13 / 32
    assert 19 / 32 <= (column + 0.5) / size[0] <= 29 / 32


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_map_may_be_the_same_everywhere(value):
    pixels = opened(overlay.png(np.full([8, 8], value), 8, 8))
    assert len({tuple(colour) for colour in pixels.reshape(-1, 4)}) == 1


def test_a_map_takes_little_room():
    y, x = np.mgrid[:32, :32] / 31
    heat = np.exp(-10 * ((x - 0.3) ** 2 + (y - 0.6) ** 2))
    assert len(overlay.png(heat, 32, 32)) < 1000
    assert len(overlay.png(heat, 96, 96)) < 3000


def test_the_page_shows_the_colours_of_the_maps():
    (ramp,) = re.findall(r"linear-gradient\(to right, ([^)]+)\)", web.asset("saliency.css"))
    stops = ramp.split(", ")
    colours = matplotlib.colormaps[overlay.COLOURS](np.linspace(0, 1, len(stops)))
    assert stops == [to_hex(colour) for colour in colours]


@pytest.mark.parametrize(
    ("how", "size", "inside"),
    [
        ("crop", (40, 20), (10, 0, 30, 20)),
        ("crop", (20, 50), (0, 15, 20, 35)),
        ("pad", (40, 20), (0, 0, 40, 20)),
        ("stretch", (40, 20), (0, 0, 40, 20)),
    ],
)
def test_a_map_lies_on_what_the_network_saw_of_the_picture(how, size, inside):
    pixels = opened(overlay.png(np.ones([16, 16]), *size, images.Fit(how).seen(*size)))
    bright = pixels[..., 1] > 128
    left, top, right, bottom = inside
    expected = np.zeros(bright.shape, bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(bright, expected)


def test_of_a_padded_picture_the_map_of_the_margins_is_not_shown():
    heat = np.zeros([32, 32])
    heat[8:24] = 1  # where a picture twice as wide as high is
    assert (opened(overlay.png(heat, 64, 32, images.Fit("pad").seen(64, 32)))[2:-2, :, 1] > 128).all()
    assert not (opened(overlay.png(1 - heat, 64, 32, images.Fit("pad").seen(64, 32)))[2:-2, :, 1] > 128).any()
