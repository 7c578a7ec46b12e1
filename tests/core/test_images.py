"""Checking single images."""

import io

import PIL.Image
import pytest
from image_data import encoded, picture

from core import images


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_good_image_is_kept_as_it_is(form):
    data = encoded(picture(1), form)
    assert images.check(data)[0] is data


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_other_modes_of_png_are_kept(mode):
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture(1)).convert(mode).save(buffer, "PNG")
    assert images.check(buffer.getvalue())[0] == buffer.getvalue()


@pytest.mark.parametrize(("form", "mode"), [("WEBP", "RGB"), ("BMP", "RGB"), ("JPEG", "CMYK"), ("GIF", "P")])
def test_other_formats_become_png(form, mode):
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture(1)).convert(mode).save(buffer, form)
    assert PIL.Image.open(io.BytesIO(images.check(buffer.getvalue())[0])).format == "PNG"


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image_is_bad(form, share):
    data = encoded(picture(1, (200, 200)), form)
    with pytest.raises(images.BadImage):
        images.check(data[: int(share * len(data))])


def test_a_png_without_its_end_is_completed():
    data = encoded(picture(1))
    cut = data[: data.index(b"IEND") - 4]
    completed, digest = images.check(cut)
    assert completed.endswith(data[-12:])
    assert digest == images.check(data)[1]


def test_a_photograph_is_turned_upright():
    exif = PIL.Image.Exif()
    exif[images.ORIENTATION] = 6  # the camera was held upright: the picture lies on its side
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture(1, (20, 40))).save(buffer, "JPEG", exif=exif)
    with PIL.Image.open(io.BytesIO(images.check(buffer.getvalue())[0])) as upright:
        assert upright.size == (20, 40)
        assert upright.getexif().get(images.ORIENTATION, 1) == 1


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"not an image at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_bad(data):
    with pytest.raises(images.BadImage):
        images.check(data)


def test_a_corrupt_png_is_bad():
    data = bytearray(encoded(picture(1)))
    data[60] ^= 0xFF
    with pytest.raises(images.BadImage):
        images.check(bytes(data))


def test_the_digest_depends_on_pixels_alone():
    pixels = picture(1)
    raw, png = images.check(pixels), images.check(encoded(pixels))
    assert raw[1] == png[1]
    assert images.check(picture(2))[1] != raw[1]


def test_the_share_is_uniform():
    shares = [images.share_of(images.check(picture(seed, (8, 8)))[1]) for seed in range(400)]
    below = sum(share < 0.25 for share in shares)
    assert 70 < below < 130
    assert all(0 <= share < 1 for share in shares)
