"""What can be said of an image by looking at it: features to slice an evaluation by."""

from __future__ import annotations

import bisect
import colorsys
import math

import numpy as np
import PIL.Image

from core import images
from trainer.images import open_rgb

# Fixed limits, so that a slice means the same in every run: (upper limit, name), the last without limit.
BRIGHTNESS = ((64, "dark (<64)"), (128, "dim (64-127)"), (192, "bright (128-191)"), (256, "light (>=192)"))
CONTRAST = ((32, "low (<32)"), (64, "medium (32-63)"), (128, "high (>=64)"))
SIZE = (
    (33, "to 32 px"),
    (65, "33-64 px"),
    (129, "65-128 px"),
    (257, "129-256 px"),
    (513, "257-512 px"),
    (math.inf, "over 512 px"),
)
# Of the variance of the Laplacian: of 3,000 test pictures of CIFAR-10 half had 1,331 to 3,013, 5 % less than 635.
SHARPNESS = (
    (250, "blurred (<250)"),
    (1000, "soft (250-999)"),
    (2000, "medium (1000-1999)"),
    (4000, "sharp (2000-3999)"),
    (math.inf, "very sharp (>=4000)"),
)
LEVELS = np.arange(256.0)
GREY = 16  # of 255: a mean colour whose channels are no further apart has no hue
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")  # round the circle, 60 degrees each
NAMES = ("brightness", "contrast", "size", "sharpness", "hue")
ENOUGH = 1 << 14  # pixels; of larger images sharpness and hue are taken from an even grid of about so many


def derive(encoded: bytes) -> dict[str, str | int]:
    """The derived features of an encoded image of the examples, its width and height in pixels, and its digest.

    `brightness` is the mean, `contrast` the standard deviation of the luma (ITU-R 601-2, 0 to 255); `size` the root
    of width times height; `sharpness` as `sharpness_of` has it, `hue` as `hue_of`.
    """
    pixels = open_rgb(encoded).numpy()
    luma = PIL.Image.fromarray(pixels).convert("L")
    mean, deviation = _moments(luma)
    height, width, _ = pixels.shape
    step = step_of(width, height)
    return {
        "brightness": _name(BRIGHTNESS, mean),
        "contrast": _name(CONTRAST, deviation),
        "size": _name(SIZE, math.sqrt(width * height)),
        "sharpness": _name(SHARPNESS, sharpness_of(np.asarray(luma, np.float32), step)),
        "hue": hue_of(pixels[::step, ::step]),
        "width": width,
        "height": height,
        "digest": images.digest(pixels).hex(),
    }


def step_of(width: int, height: int) -> int:
    """Of each direction every so many-th pixel is enough for `sharpness_of` and `hue_of`."""
    return max(1, math.isqrt(width * height // ENOUGH))


def sharpness_of(luma: np.ndarray, step: int = 1) -> float:
    """The variance of the Laplacian: little where an image is out of focus (Pech-Pacheco et al., Diatom autofocusing
    in brightfield microscopy, ICPR 2000).

    Args:
        luma: float32 [height, width], 0 to 255.
        step: from `step_of`.

    Returns:
        The variance over the pixels that have four neighbours; 0 where there is none.
    """
    centre, before, after = slice(1, -1, step), slice(0, -2, step), slice(2, None, step)
    laplacian = 4 * luma[centre, centre]
    if not laplacian.size:
        return 0.0
    for row, column in ((before, centre), (after, centre), (centre, before), (centre, after)):
        laplacian -= luma[row, column]
    return float(laplacian.var(dtype=np.float64))


def hue_of(pixels: np.ndarray) -> str:
    """The name of the hue of the mean colour of uint8 [height, width, 3], the nearest of HUES; "grey" without one."""
    mean = pixels.sum(axis=0, dtype=np.uint64).sum(axis=0) / (pixels.size // 3)  # ten times as fast as .mean
    if mean.max() - mean.min() < GREY:
        return "grey"
    hue, _, _ = colorsys.rgb_to_hsv(*mean)
    return HUES[round(hue * len(HUES)) % len(HUES)]


def digest(encoded: bytes) -> str:
    """What names a picture of the examples by its pixels, as the ingest does."""
    return images.digest(open_rgb(encoded).numpy()).hex()


def _moments(luma: PIL.Image.Image) -> tuple[float, float]:
    """Mean and standard deviation of an image of 8 bits."""
    histogram, count = np.array(luma.histogram(), float), luma.width * luma.height
    mean = float(histogram @ LEVELS) / count  # the sums are exact
    return mean, math.sqrt(max(0.0, float(histogram @ LEVELS**2) / count - mean**2))


def _name(limits: tuple[tuple[float, str], ...], value: float) -> str:
    place = bisect.bisect_right([limit for limit, _ in limits], value)
    return limits[min(place, len(limits) - 1)][1]
