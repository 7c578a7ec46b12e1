"""Damaged images: each is kept and decodes to what was checked, or it is dropped with a reason. Never a crash."""

import collections
import io
import random
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from image_data import encoded, picture

from components.ingest import check
from core import images
from trainer.images import open_rgb

TRIES = 250  # of each form


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def frames():
    return [PIL.Image.fromarray(picture(seed, (48, 64))) for seed in range(4)]


PHOTO = PIL.Image.fromarray(picture(1, (60, 80)))
# Those of PNG carry checksums: what is kept of them shows what it showed before.
SUMMED = {
    "PNG": saved(PHOTO, "PNG"),
    "PNG of a palette": saved(PHOTO.convert("P"), "PNG"),
    "PNG of 16 bits": saved(PIL.Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13), "PNG"),
    "PNG with alpha": saved(PIL.Image.merge("RGBA", [*PHOTO.split(), PHOTO.split()[0]]), "PNG"),
    "PNG of frames": saved(frames()[0], "PNG", save_all=True, append_images=frames()[1:]),
}
OTHERS = {
    "JPEG": saved(PHOTO, "JPEG", quality=85),
    "JPEG, progressive": saved(PHOTO, "JPEG", progressive=True),
    "JPEG, grey": saved(PHOTO.convert("L"), "JPEG"),
    "JPEG, CMYK": saved(PHOTO.convert("CMYK"), "JPEG"),
    "GIF": saved(PHOTO, "GIF", save_all=True, append_images=frames()),
    "WEBP": saved(PHOTO, "WEBP"),
    "BMP": saved(PHOTO, "BMP"),
    "TIFF": saved(PHOTO, "TIFF", compression="tiff_lzw"),
    "AVIF": saved(PHOTO, "AVIF"),
    "QOI": saved(PHOTO.resize((16, 16)), "QOI"),
    "JPEG2000": saved(PHOTO, "JPEG2000"),
    "TGA": saved(PHOTO, "TGA"),
    "PPM": saved(PHOTO, "PPM"),
    "ICO": saved(PHOTO, "ICO"),
}


def damaged(data, chance):
    """A copy with one thing wrong."""
    body = bytearray(data)
    at, length = chance.randrange(len(body)), chance.choice([1, 4, 16, 64])
    kind = chance.choice(["bit", "cut", "zeros", "ones", "noise", "twice", "missing"])
    if kind == "bit":
        body[at] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del body[at:]
    elif kind == "zeros":
        body[at : at + length] = bytes(len(body[at : at + length]))
    elif kind == "ones":
        body[at : at + length] = b"\xff" * len(body[at : at + length])
    elif kind == "noise":
        body[at : at + length] = chance.randbytes(len(body[at : at + length]))
    elif kind == "twice":
        body[at:at] = body[at : at + length]
    else:
        del body[at : at + length]
    return bytes(body)


@pytest.mark.parametrize("form", [*SUMMED, *OTHERS])
def test_a_damaged_image_is_decoded_as_it_was_checked_or_dropped(form):
    original = SUMMED.get(form) or OTHERS[form]
    _, before = check(original, images.WHITE)
    chance = random.Random(form)
    outcomes = collections.Counter()
    for _ in range(TRIES):
        try:
            kept, digest = check(damaged(original, chance), images.WHITE)
        except images.BadImage as problem:
            outcomes["dropped"] += 1
            outcomes["without a short reason"] += not 0 < len(str(problem)) < 300
            continue
        outcomes["kept"] += 1
        assert images.digest(open_rgb(kept).numpy()) == digest
        outcomes["same"] += digest == before
    assert outcomes["dropped"] > 0
    assert not outcomes["without a short reason"]
    if form in SUMMED:
        assert outcomes["same"] == outcomes["kept"]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_image_is_dropped(form, share):
    data = encoded(picture(1, (200, 200)), form)
    with pytest.raises(images.BadImage):
        check(data[: int(share * len(data))], images.WHITE)


def test_pixels_and_any_lossless_file_of_them_have_one_digest():
    pixels = picture(1)
    for image in (pixels, encoded(pixels), encoded(pixels, "BMP")):
        assert check(image, images.WHITE)[1] == images.digest(pixels)


def colours(data, background):
    """The first pixel and the last of what is kept of an image file."""
    pixels = open_rgb(check(data, background)[0]).numpy()
    return pixels[0, 0].tolist(), pixels[-1, -1].tolist()


@pytest.mark.parametrize("background", [(255, 255, 255), (16, 32, 48)])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_the_background_is_seen_through_transparent_parts(form, background):
    image = PIL.Image.new("RGBA", (8, 8), (200, 100, 50, 255))
    image.putpixel((7, 7), (200, 100, 50, 128))
    lossless = {"lossless": True} if form == "WEBP" else {}
    mixed = [round((near * 128 + far * 127) / 255) for near, far in zip((200, 100, 50), background, strict=True)]
    assert colours(saved(image, form, **lossless), background) == ([200, 100, 50], mixed)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_grey_value_that_stands_for_nothing_is_seen_through_at_every_depth(depth):
    """One value everywhere, which the PNG declares transparent."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, depth, 0, 0, 0, 0))
    rows = zlib.compress((b"\0" + bytes(2 * depth)) * 16)
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", b"\0\0") + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert colours(data, (10, 128, 255)) == ([10, 128, 255], [10, 128, 255])


def test_what_the_network_sees_is_what_counts():
    """Two drawings in black on nothing differ, and so do two X-rays of 16 bits."""
    shapes = []
    for box in ((2, 2, 20, 20), (8, 8, 30, 30)):
        image = PIL.Image.new("RGBA", (32, 32), (0, 0, 0, 0))
        image.paste((0, 0, 0, 255), box)
        shapes.append(saved(image, "PNG"))
    rays = [saved(PIL.Image.fromarray(np.full((8, 8), value, np.uint16)), "PNG") for value in (3000, 30000)]
    assert len({check(data, images.WHITE)[1] for data in (*shapes, *rays)}) == 4


def test_the_reason_is_in_words():
    data = bytearray(SUMMED["PNG"])
    data[data.index(b"IDAT") + 100] ^= 1
    with pytest.raises(images.BadImage, match=r"^damaged, TensorFlow does not decode it \(Invalid PNG data[^\[]*\)$"):
        check(bytes(data), images.WHITE)
