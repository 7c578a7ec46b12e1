"""From any image file to what TensorFlow decodes, before it becomes an example or a request."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import warnings

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageColor
import PIL.ImageOps

KEPT_FORMATS = ("JPEG", "PNG")  # what TensorFlow decodes on every platform
KEPT_MODES = ("RGB", "L", "P", "RGBA", "LA", "1", "I;16")
ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
# Pillow cannot decode these by itself, or asks Ghostscript, which runs programs.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
PNG_EXIF = (b"eXIf", b"Raw profile type", b"adobe.xmp")  # Pillow would decode a PNG to look for them
SCALED = ("PNG", "PPM")  # formats whose mode I holds 16 bits


RGB = tuple[int, int, int]
WHITE: RGB = (255, 255, 255)


class BadImage(Exception):
    """The bytes are no complete image; the text says why."""


@functools.cache
def formats() -> list[str]:
    """Pillow's names of the formats that are taken, in the order in which they are tried."""
    PIL.Image.init()
    return [*KEPT_FORMATS, *sorted(set(PIL.Image.OPEN) - NO_PICTURES - {*KEPT_FORMATS})]


def suffixes() -> frozenset[str]:
    """What the names of image files end with: ".jpg", ".png", ".webp", ..."""
    known = set(formats())
    return frozenset(suffix for suffix, form in PIL.Image.registered_extensions().items() if form in known)


def prepare(data: bytes) -> tuple[bytes, PIL.Image.Image]:
    """Makes a PNG or JPEG that shows what a person would see in an image viewer.

    Of several frames the first; upright as its EXIF data say; of 16 bits the upper 8, as TensorFlow does it; other
    colour spaces as RGB; transparency stays. What is a PNG or JPEG and needs nothing of that keeps its bytes, and its
    pixels are not decoded here: whether TensorFlow can is to be tried.

    Args:
        data: encoded bytes of any format.

    Returns:
        The encoded bytes, and the image; where it is kept that is not yet decoded.

    Raises:
        BadImage: truncated, corrupt, not an image, or nothing that has a certain look.
    """
    if not data:
        raise BadImage("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata and of large pictures; too large ones are refused
            opened = PIL.Image.open(io.BytesIO(data), formats=formats())
            turnable = opened.format != "PNG" or any(mark in data for mark in PNG_EXIF)
            upright = _upright(opened) if turnable else opened
            if upright is opened and opened.format in KEPT_FORMATS and opened.mode in KEPT_MODES:
                return data, opened
            seen = upright.convert("RGBA") if has_alpha(upright) else rgb(upright)
            return encode(seen), seen
    except PIL.UnidentifiedImageError:
        raise BadImage("not an image") from None
    except BadImage:
        raise
    except Exception as problem:  # decoders raise anything on damaged files
        raise BadImage(str(problem) or type(problem).__name__) from None


def has_alpha(image: PIL.Image.Image) -> bool:
    """Whether something may be seen through an image."""
    return image.mode in ALPHA_MODES or "transparency" in image.info


def rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """In RGB with 8 bits a channel; of 16 the upper 8, where Pillow would make all bright values white.

    Raises:
        BadImage: values of 32 bits, whose range nobody knows.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in SCALED):
        raise BadImage("its values have 32 bits, and which of them is white is not said: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        image = PIL.Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def over(pixels: np.ndarray, background: RGB) -> np.ndarray:
    """uint8 [height, width, 4], RGB and alpha, laid over a colour: uint8 [height, width, 3]."""
    alpha = pixels[..., 3:].astype(np.int32)
    mixed = pixels[..., :3] * alpha + np.array(background, np.int32) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def colour(name: str) -> RGB:
    """The RGB values of a colour by its CSS name or as #rrggbb. Raises ValueError."""
    return PIL.ImageColor.getrgb(name)[:3]


def encode(image: PIL.Image.Image | np.ndarray) -> bytes:
    """An image, or its uint8 pixels [height, width, 3], as PNG."""
    buffer = io.BytesIO()
    picture = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(buffer, "PNG", compress_level=1)  # half the time of the default for 2 % more bytes
    return buffer.getvalue()


def share_of(digest: bytes) -> float:
    """A number in [0, 1) that depends on the pixels alone, for a split that never changes."""
    return int.from_bytes(digest[:8], "big") / 2**64


def digest(pixels: np.ndarray) -> bytes:
    """What names a picture by its pixels uint8 [height, width, 3]: 16 bytes, the same in any lossless encoding."""
    salt = b"%d,%d" % pixels.shape[:2]
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, salt=salt).digest()


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """As its EXIF data say, which TensorFlow ignores; the image itself where they say nothing."""
    with contextlib.suppress(Exception):  # broken EXIF data do not spoil the picture
        if image.getexif().get(PIL.ExifTags.Base.Orientation, 1) != 1:
            return PIL.ImageOps.exif_transpose(image)
    return image
