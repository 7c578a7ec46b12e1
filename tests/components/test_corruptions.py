"""The kinds of harm: each grows with its strength, and leaves what it shall leave."""

import typing

import numpy as np
import PIL.Image
import pytest
from image_data import picture

from components import corruptions
from core.settings import Evaluation
from pipeline.commands import robustness as command


@pytest.fixture(scope="module")
def pixels():
    """A picture with edges, colours and room above and below its values."""
    drawn = picture(3, (32, 48)) // 2 + 40
    drawn[8:20, 10:30] = (180, 60, 90)
    return drawn


def test_the_settings_and_the_command_know_all_kinds():
    (kinds, _) = typing.get_args(Evaluation.model_fields["corruptions"].annotation)
    assert typing.get_args(kinds) == tuple(corruptions.KINDS) == command.KINDS


@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_more_strength_is_more_harm(pixels, kind):
    harmed = [corruptions.corrupt(pixels, kind, strength) for strength in corruptions.STRENGTHS]
    assert {(one.dtype, one.shape) for one in harmed} == {(np.dtype(np.uint8), pixels.shape)}
    distances = [np.abs(one.astype(int) - pixels).mean() for one in harmed]
    assert distances[0] > 0
    assert distances == sorted(distances)


def test_noise_is_that_of_the_example():
    grey = np.full((32, 32, 3), 128, np.uint8)
    one, again, other = (corruptions.corrupt(grey, "noise", 3, id) for id in ("a", "a", "b"))
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.5
    assert one.std() / 255 == pytest.approx(corruptions.NOISE[2], rel=0.1)


@pytest.mark.parametrize("kind", ["blur", "contrast", "jpeg"])
def test_a_picture_of_one_colour_stays(kind):
    flat = np.full((16, 24, 3), 128, np.uint8)
    np.testing.assert_array_equal(corruptions.corrupt(flat, kind, 5), flat)


def test_blur_looks_the_same_on_a_larger_picture(pixels):
    small, large = (np.asarray(PIL.Image.fromarray(pixels).resize((side, side))) for side in (32, 256))
    blurred = PIL.Image.fromarray(corruptions.corrupt(large, "blur", 5)).resize((32, 32))
    apart = np.abs(np.asarray(blurred).astype(int) - corruptions.corrupt(small, "blur", 5))
    assert apart.mean() < 0.25 * np.abs(small.astype(int) - corruptions.corrupt(small, "blur", 5)).mean() + 1


def test_brightness_keeps_hue_and_saturation(pixels):
    import colorsys

    brighter = corruptions.corrupt(pixels, "brightness", 5)
    for row, column in ((0, 0), (10, 20), (31, 47)):
        before, after = (colorsys.rgb_to_hsv(*(one[row, column] / 255)) for one in (pixels, brighter))
        assert after[:2] == pytest.approx(before[:2], abs=0.03)
        assert after[2] == pytest.approx(min(1, before[2] + 0.3), abs=0.005)
    black = corruptions.corrupt(np.zeros((2, 2, 3), np.uint8), "brightness", 5)
    assert np.unique(black).tolist() == [round(0.3 * 255)]


def test_contrast_shrinks_around_the_mean(pixels):
    lower = corruptions.corrupt(pixels, "contrast", 2)
    np.testing.assert_allclose(lower.mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), atol=0.5)
    np.testing.assert_allclose(lower.std(axis=(0, 1)), 0.5 * pixels.std(axis=(0, 1)), rtol=0.03)
