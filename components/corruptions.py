"""Pictures as a worse camera takes them: five kinds of harm, each in five strengths.

After Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (ICLR
2019, arXiv:1903.12261): Gaussian noise, Gaussian blur, brightness, contrast and JPEG, with the strengths of its
CIFAR-10-C, which are for pictures of 32 pixels. A blur grows with the picture, so that it looks the same on a larger
one; all others are what they are at any size.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image
from scipy import ndimage

STRENGTHS = (1, 2, 3, 4, 5)
NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, of values 0 to 1
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation in pixels of a picture of SIDE
SIDE = 32
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value of hue, saturation and value
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # what is left of the distance from the mean of each channel
JPEG = (80, 65, 58, 50, 40)  # Pillow's quality


def corrupt(pixels: np.ndarray, kind: str, strength: int, id: str = "") -> np.ndarray:
    """A picture after it was harmed.

    Args:
        pixels: uint8 [height, width, 3].
        kind: one of KINDS.
        strength: one of STRENGTHS, 1 is the weakest.
        id: of the example: the same one always gets the same noise.

    Returns:
        uint8 [height, width, 3].
    """
    return KINDS[kind](pixels, strength - 1, id)


def _noise(pixels: np.ndarray, place: int, id: str) -> np.ndarray:
    random = np.random.default_rng([zlib.crc32(id.encode()), place])
    return _bytes(pixels / 255 + random.normal(0, NOISE[place], pixels.shape))


def _blur(pixels: np.ndarray, place: int, id: str) -> np.ndarray:
    sigma = BLUR[place] * max(pixels.shape[:2]) / SIDE
    return _bytes(ndimage.gaussian_filter(pixels / 255, (sigma, sigma, 0), mode="nearest"))


def _brightness(pixels: np.ndarray, place: int, id: str) -> np.ndarray:
    """More value at the same hue and saturation: all channels grow by the factor by which the largest one does."""
    values = pixels / 255
    value = values.max(axis=2, keepdims=True)
    brighter = np.minimum(value + BRIGHTNESS[place], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _bytes(np.where(value > 0, values * (brighter / value), brighter))


def _contrast(pixels: np.ndarray, place: int, id: str) -> np.ndarray:
    values = pixels / 255
    mean = values.mean(axis=(0, 1), keepdims=True)
    return _bytes(mean + CONTRAST[place] * (values - mean))


def _jpeg(pixels: np.ndarray, place: int, id: str) -> np.ndarray:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG[place])
    with PIL.Image.open(buffer) as opened:
        return np.asarray(opened.convert("RGB"))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)


KINDS: dict[str, Callable[[np.ndarray, int, str], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "jpeg": _jpeg,
}
