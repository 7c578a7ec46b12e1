"""What can be said of an image by looking at it: features to slice an evaluation by."""

from __future__ import annotations

import bisect
import math

import PIL.Image
import PIL.ImageStat

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
NAMES = ("brightness", "contrast", "size")


def derive(encoded: bytes) -> dict[str, str | int]:
    """The derived features of an encoded image of the examples, its width and height in pixels, and its digest.

    `brightness` is the mean, `contrast` the standard deviation of the luma (ITU-R 601-2, 0 to 255); `size` the root
    of width times height.
    """
    pixels = open_rgb(encoded).numpy()
    luma = PIL.ImageStat.Stat(PIL.Image.fromarray(pixels).convert("L"))
    height, width, _ = pixels.shape
    return {
        "brightness": _name(BRIGHTNESS, luma.mean[0]),
        "contrast": _name(CONTRAST, luma.stddev[0]),
        "size": _name(SIZE, math.sqrt(width * height)),
        "width": width,
        "height": height,
        "digest": images.digest(pixels).hex(),
    }


def digest(encoded: bytes) -> str:
    """What names a picture of the examples by its pixels, as the ingest does."""
    return images.digest(open_rgb(encoded).numpy()).hex()


def _name(limits: tuple[tuple[float, str], ...], value: float) -> str:
    place = bisect.bisect_right([limit for limit, _ in limits], value)
    return limits[min(place, len(limits) - 1)][1]
