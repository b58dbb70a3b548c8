import io
import threading
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data.dataset import Preparation
from striate.data.media.image.pictures import (
    UnreadableImage,
    decode_image,
    decode_mask,
    prepare_image,
    read_header,
    refit,
)

RED = np.array([200, 30, 60], np.uint8)


def encode(image, form="PNG", **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def prep(channels=3, height=4, width=6, **options):
    return Preparation("image", (channels, height, width), **options)


def decode(data, channels=3, height=4, width=6, **options):
    return decode_image(data, "a file", prep(channels, height, width, **options))


def gradient(height=4, width=6):
    return (np.arange(height * width).reshape(height, width) * 10).astype(np.uint8)


def solid(mode, color):
    return Image.new(mode, (6, 4), color)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_is_kept_bit_for_bit_and_repeated_for_rgb(channels):
    x = decode(encode(Image.fromarray(gradient())), channels)
    assert x.shape == (channels, 4, 6)
    assert x.dtype == np.uint8
    assert (x == gradient()).all()


def test_rgb_is_kept_bit_for_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert (decode(encode(Image.fromarray(pixels))) == pixels.transpose(2, 0, 1)).all()


def test_gray_from_color_is_itu_r_601():
    x = decode(encode(solid("RGB", tuple(RED))), 1)
    assert np.unique(x).tolist() == [round(0.299 * 200 + 0.587 * 30 + 0.114 * 60)]


@pytest.mark.parametrize(
    ("image", "form", "expected"),
    [
        (solid("1", 1), "PNG", (255, 255, 255)),
        (solid("LA", (0, 128)), "PNG", (127, 127, 127)),
        (solid("RGBA", (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (solid("RGBA", (255, 0, 0, 51)), "PNG", (255, 204, 204)),
        (solid("RGBA", (255, 0, 0, 51)), "TIFF", (255, 204, 204)),
        (solid("CMYK", (0, 255, 255, 0)), "TIFF", (255, 0, 0)),
        (solid("RGB", (10, 20, 30)).convert("YCbCr"), "TIFF", (10, 20, 30)),
        (solid("LAB", (255, 128, 128)), "TIFF", (255, 255, 255)),
        (Image.fromarray(np.full((4, 6), 65535, np.uint16)), "PNG", (255, 255, 255)),
        (Image.fromarray(np.full((4, 6), 257 * 77 + 128, np.uint16)), "PNG", (77, 77, 77)),
        (Image.fromarray(np.full((4, 6), 257 * 77 + 129, np.uint16)), "TIFF", (78, 78, 78)),
        (Image.fromarray(np.full((4, 6), 257 * 5, np.int32)), "TIFF", (5, 5, 5)),
        (Image.fromarray(np.full((4, 6), 0.2, np.float32)), "TIFF", (51, 51, 51)),
        (Image.fromarray(np.full((4, 6), 9, np.uint8)), "PPM", (9, 9, 9)),
        (solid("RGB", (9, 8, 7)), "BMP", (9, 8, 7)),
        (solid("RGB", (9, 8, 7)), "GIF", (9, 8, 7)),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_is_read_in_its_defined_way(image, form, expected):
    x = decode(encode(image, form))
    assert np.abs(x.reshape(3, -1).T.astype(int) - expected).max() <= 2 * (image.mode in ("LAB", "YCbCr"))


def test_cmyk_jpeg_is_not_inverted():
    x = decode(encode(solid("CMYK", (0, 255, 255, 0)), "JPEG", quality=100))
    assert x[0].min() > 240
    assert x[1:].max() < 15


def palette_image(transparency=None):
    image = Image.fromarray(np.array([[0, 1, 2]] * 2, np.uint8), "L").convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 7, 7, 7])
    return encode(image, **({} if transparency is None else {"transparency": transparency}))


def test_palettes_with_and_without_transparency():
    assert decode(palette_image(), height=2, width=3)[:, 0].T.tolist() == [[255, 0, 0], [0, 255, 0], [7, 7, 7]]
    one = decode(palette_image(0), height=2, width=3)[:, 0].T.tolist()
    assert one == [[255, 255, 255], [0, 255, 0], [7, 7, 7]]
    many = decode(palette_image(bytes([255, 0, 255])), height=2, width=3)[:, 0].T.tolist()
    assert many == [[255, 0, 0], [255, 255, 255], [7, 7, 7]]


def test_a_single_transparent_color_is_white():
    assert (decode(encode(solid("L", 7), transparency=7), 1) == 255).all()
    assert (decode(encode(solid("RGB", (1, 2, 3)), transparency=(1, 2, 3))) == 255).all()
    deep = Image.fromarray(np.full((4, 6), 700, np.uint16))
    assert (decode(encode(deep, transparency=700), 1) == 255).all()


def oriented(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(Image.fromarray(gradient()), form, exif=exif, **({"quality": 100} if form == "JPEG" else {}))


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: np.rot90,
}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_known_to_the_header(orientation, form):
    data, expected = oriented(orientation, form), UPRIGHT[orientation](gradient())
    header = read_header(data, "a file")
    assert (header.height, header.width) == expected.shape
    x = decode(data, 1, *expected.shape)
    assert np.abs(x[0].astype(int) - expected).max() <= (30 if form == "JPEG" else 0)


@pytest.mark.parametrize(
    ("data", "color"),
    [
        (encode(solid("RGB", (5, 5, 5))), True),
        (encode(solid("RGBA", (5, 5, 5, 5))), True),
        (encode(solid("L", 5)), False),
        (encode(solid("LA", (5, 5))), False),
        (encode(solid("CMYK", (1, 2, 3, 4)), "TIFF"), True),
        (palette_image(), True),
        (encode(solid("L", 5).convert("P")), False),
    ],
)
def test_header_says_whether_there_is_color(data, color):
    assert read_header(data, "a file").color is color


def test_unused_palette_colors_are_not_color():
    image = Image.fromarray(np.zeros((4, 6), np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 255, 0, 0])
    assert not read_header(encode(image), "a file").color


def test_fits():
    wide = encode(Image.fromarray(np.repeat(np.array([[0, 100, 200]], np.uint8), 2, 1).repeat(2, 0)))  # 2 × 6
    crop = decode(wide, 1, 2, 2, fit="crop")[0]
    assert (crop == 100).all()
    pad = decode(wide, 1, 6, 6, fit="pad")[0]
    assert (pad[:2] == 0).all()
    assert (pad[4:] == 0).all()
    assert (pad[2:4] == [0, 0, 100, 100, 200, 200]).all()
    stretch = decode(wide, 1, 4, 6, fit="stretch")[0]
    assert (stretch == [0, 0, 100, 100, 200, 200]).all()


def test_shrinking_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(decode(encode(Image.fromarray(stripes)), 1, 8, 8)[0].astype(int) - 128).max() <= 8


def test_animation_gives_the_first_frame():
    frames = [solid("L", 10), solid("L", 200)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(data, 1) == 10).all()


def test_a_pillow_image_is_prepared_like_its_file():
    image = Image.fromarray(gradient(30, 20))
    assert (prepare_image(image, "image", prep(1)) == decode(encode(image), 1)).all()
    assert image.size == (20, 30)


def test_images_in_memory_are_refitted_like_files():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    out = refit(pixels.transpose(0, 3, 1, 2), 1, (4, 6), "pad")
    for x, image in zip(out, pixels, strict=True):
        assert (x == decode(encode(Image.fromarray(image)), 1, fit="pad")).all()
    assert refit(out, 1, (4, 6), "crop") is out


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"hello, I am a text", "not a picture: the file begins with b'hello, I am '"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (encode(Image.fromarray(np.full((4, 6), 70_000, np.int32)), "TIFF"), "32-bit values from 70000"),
        (encode(Image.fromarray(np.full((4, 6), 3.0, np.float32)), "TIFF"), "floating-point values from 3"),
        (encode(Image.fromarray(np.full((4, 6), np.nan, np.float32)), "TIFF"), "floating-point values"),
    ],
)
def test_unreadable_pictures_say_why(data, reason):
    with pytest.raises(UnreadableImage) as caught:
        decode(data)
    assert caught.value.reason.startswith(reason)


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_heic_without_its_reader_names_the_extra():
    with pytest.raises(UnreadableImage) as caught:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert caught.value.reason == "HEIC, which pip install 'striate[heic]' reads"
    assert caught.value.remedy == "pip install 'striate[heic]'"


def test_heic_is_read_where_its_reader_is(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    file = tmp_path / "photo.HEIC"
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(file, quality=90)
    header = read_header(file, "photo.HEIC")
    assert (header.height, header.width, header.color) == (48, 64, True)
    x = decode_image(file, "photo.HEIC", Preparation("image", (3, 6, 8)))
    assert abs(x[0].mean() - 200) < 12
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UnreadableImage):
        decode_image(file, "photo.HEIC", Preparation("image", (3, 6, 8)))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_truncated_pictures_are_refused(form):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), form)
    with pytest.raises(UnreadableImage, match=r"cut off|damaged"):
        decode(data[: len(data) // 2])


def test_too_many_pixels_are_refused_by_the_header():
    data = encode(Image.new("1", (10_000, 10_000)))
    with pytest.raises(UnreadableImage, match="100,000,000 pixels, more than the 64,000,000 allowed"):
        decode(data)
    with pytest.raises(UnreadableImage, match="more than the 23"):
        read_header(encode(solid("L", 0)), "a file", max_pixels=23)


def test_pillows_own_limit_neither_warns_nor_raises_and_is_put_back():
    before = Image.MAX_IMAGE_PIXELS
    data = encode(Image.new("1", (10_000, 10_000)))
    assert read_header(data, "a file", max_pixels=10**9).width == 10_000
    assert before == Image.MAX_IMAGE_PIXELS


def test_warnings_and_limits_survive_many_threads():
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    data = encode(Image.fromarray(gradient()))
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(50)]) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters


def test_masks_are_values_and_palette_indices():
    values = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
    image = Image.fromarray(values)
    assert (decode_mask(encode(image), "m") == values).all()
    indexed = Image.fromarray(values).convert("P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255] + [1] * 759)
    assert (decode_mask(encode(indexed), "m") == values).all()
    assert (decode_mask(encode(Image.fromarray(values).convert("RGB")), "m") == values).all()


def test_masks_with_color_or_large_values_are_refused():
    with pytest.raises(UnreadableImage, match="mode RGB"):
        decode_mask(encode(solid("RGB", (1, 2, 3))), "m")
    with pytest.raises(UnreadableImage, match="mask values from 300 to 300"):
        decode_mask(encode(Image.fromarray(np.full((4, 6), 300, np.uint16))), "m")


SEEDS = [
    encode(Image.fromarray(np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3)), form)
    for form in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM")
]


@settings(max_examples=150)
@given(st.sampled_from(SEEDS), st.data())
def test_damaged_pictures_give_pixels_or_the_one_error(seed, data):
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        x = decode(bytes(damaged), max_pixels=10_000)
    except UnreadableImage:
        return
    assert x.shape == (3, 4, 6)
