"""From image files to what TensorFlow decodes."""

import io

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from image_data import encoded, picture

from core import images

LOSSLESS = {"WEBP": {"lossless": True}}


def saved(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **LOSSLESS.get(form, {}), **options)
    return buffer.getvalue()


def prepared(data):
    """The pixels of what becomes of an image file."""
    with PIL.Image.open(io.BytesIO(images.prepare(data)[0])) as opened:
        assert opened.format in images.KEPT_FORMATS
        return np.asarray(opened)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_good_image_is_kept_as_it_is(form):
    data = encoded(picture(1), form)
    assert images.prepare(data)[0] is data


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_other_modes_of_png_are_kept(mode):
    data = saved(PIL.Image.fromarray(picture(1)).convert(mode))
    assert images.prepare(data)[0] is data


@pytest.mark.parametrize(
    ("form", "mode"),
    [("WEBP", "RGB"), ("BMP", "RGB"), ("JPEG", "CMYK"), ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "L")],
)
def test_other_formats_become_png(form, mode):
    data = saved(PIL.Image.fromarray(picture(1)).convert(mode), form)
    with PIL.Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(prepared(data), np.asarray(opened.convert("RGB")))


GREY_16 = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)


def test_a_png_of_16_bits_is_kept_since_tensorflow_takes_the_upper_8():
    data = saved(PIL.Image.fromarray(GREY_16))
    assert images.prepare(data)[0] is data


@pytest.mark.parametrize("form", ["TIFF", "PPM"])
def test_of_16_bits_in_other_formats_the_upper_8_are_seen(form):
    found = prepared(saved(PIL.Image.fromarray(GREY_16), form))
    np.testing.assert_array_equal(found, np.repeat(GREY_16[..., None] >> 8, 3, axis=2))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_of_32_bits_nobody_knows_what_is_white(mode):
    with pytest.raises(images.BadImage, match=r"32 bits.*save it with 8 or 16"):
        images.prepare(saved(PIL.Image.new(mode, (8, 8), 1), "TIFF"))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_transparency_stays(form):
    image = PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((200, 100, 50, 255), (0, 0, 4, 8))
    found = prepared(saved(image, form))
    assert found[0, 0].tolist() == [200, 100, 50, 255]
    assert found[0, 7, 3] == 0


def test_a_photograph_is_turned_upright():
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6  # the camera was held upright: the picture lies on its side
    assert prepared(saved(PIL.Image.fromarray(picture(1, (20, 40))), "JPEG", exif=exif)).shape[:2] == (40, 20)


def test_a_drawing_is_turned_upright():
    """Of a PNG Pillow finds the orientation at its end, too."""
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    assert prepared(saved(PIL.Image.fromarray(picture(1, (20, 40))), "PNG", exif=exif)).shape[:2] == (40, 20)


def test_broken_exif_data_do_not_spoil_a_picture():
    data = saved(PIL.Image.fromarray(picture(1)), "JPEG", exif=b"Exif\0\0nonsense, and more of it")
    assert images.prepare(data)[0] is data


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"not an image at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_bad(data):
    with pytest.raises(images.BadImage):
        images.prepare(data)


def test_postscript_is_no_image_because_reading_it_runs_a_program():
    with pytest.raises(images.BadImage):
        images.prepare(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    assert not {".eps", ".ps"} & images.suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"} <= images.suffixes()


def test_the_digest_depends_on_pixels_alone():
    pixels = picture(1)
    assert images.digest(pixels) == images.digest(np.asfortranarray(pixels))
    assert len({images.digest(each) for each in (pixels, picture(2), pixels.reshape(16, 64, 3))}) == 3


def test_the_share_is_uniform():
    shares = [images.share_of(images.digest(picture(seed, (8, 8)))) for seed in range(400)]
    below = sum(share < 0.25 for share in shares)
    assert 70 < below < 130
    assert all(0 <= share < 1 for share in shares)
