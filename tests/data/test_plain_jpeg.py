"""The fast way to decode and to resize gives what Pillow gives."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data.dataset import Preparation
from striate.data.media.image.fitting import geometry, pixels_of, place_picture, scale_bytes
from striate.data.media.image.jpeg import decode_plain_jpeg, plain_jpeg_header
from striate.data.media.image.pictures import Header, UnreadableImage, decode_image, read_header


def jpeg(pixels: np.ndarray, mode: str = "RGB", **options) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def form(channels: int = 3, size: tuple[int, int] = (20, 20), **fields) -> Preparation:
    return Preparation("image", (channels, *size), **fields)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    quality=st.sampled_from([10, 75, 95, 100]),
    subsampling=st.integers(0, 2),
    progressive=st.booleans(),
    mode=st.sampled_from(["RGB", "L"]),
)
@settings(max_examples=60)
def test_bytes_are_those_of_pillow(height, width, quality, subsampling, progressive, mode) -> None:
    data = jpeg(noise(height, width), mode, quality=quality, subsampling=subsampling, progressive=progressive)
    pixels = decode_plain_jpeg(data, form())
    with Image.open(BytesIO(data)) as opened:
        assert np.array_equal(pixels, np.asarray(opened.convert("RGB")))
    gray = decode_plain_jpeg(data, form(1))
    assert gray is None if mode == "RGB" else gray.shape == (height, width, 1)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    progressive=st.booleans(),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    turn=st.sampled_from([None, 1, 6]),
)
@settings(max_examples=60)
def test_headers_are_those_of_pillow(height, width, progressive, mode, turn) -> None:
    exif = Image.Exif()
    if turn is not None:
        exif[0x0112] = turn
    data = jpeg(noise(height, width), mode, progressive=progressive, **({} if turn is None else {"exif": exif}))
    size = (width, height) if turn == 6 else (height, width)
    assert read_header(data, "it") == Header(*size, color=mode != "L")
    plain = plain_jpeg_header(data)
    assert (plain is None) == (mode == "CMYK" or turn is not None)
    assert plain is None or plain == (height, width, mode.replace("L", "GRAY"))


def test_how_xmp_says_that_a_picture_stands_is_heeded() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    turned, told = (jpeg(noise(20, 40), xmp=text) for text in (xmp, xmp.replace(b"Orientation", b"Compression")))
    assert read_header(turned, "turned") == Header(40, 20, color=True)
    upright, lying = (decode_image(data, "it", form(size=(40, 40), fit="pad")) for data in (turned, told))
    assert np.array_equal(upright, np.rot90(lying, -1, axes=(1, 2)))


@pytest.mark.skipif("STRIATE_DATA" not in os.environ, reason="STRIATE_DATA names no folder with photographs")
def test_photographs_are_those_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((Path(os.environ["STRIATE_DATA"]) / "flowers").rglob("*.jpg"))[::7]
    fast = [decode_image(file, file.name, form(size=(96, 130))) for file in files]
    assert sum(decode_plain_jpeg(file.read_bytes(), form()) is not None for file in files) > len(files) / 2
    monkeypatch.setitem(sys.modules, "simplejpeg", None)  # as where it is not installed
    assert decode_plain_jpeg(files[0].read_bytes(), form()) is None
    for file, pixels in zip(files, fast, strict=True):
        assert np.array_equal(decode_image(file, file.name, form(size=(96, 130))), pixels)


def test_what_is_not_quite_usual_is_left_to_pillow() -> None:
    pixels, exif = noise(40, 50), Image.Exif()
    exif[0x0112] = 6
    assert decode_plain_jpeg(jpeg(pixels), form()) is not None
    assert decode_plain_jpeg(jpeg(pixels, exif=exif), form()) is None
    assert decode_plain_jpeg(jpeg(pixels, "CMYK"), form()) is None
    assert decode_plain_jpeg(jpeg(pixels), form(1)) is None
    assert decode_plain_jpeg(jpeg(pixels), form(max_pixels=1999)) is None
    assert decode_plain_jpeg(jpeg(pixels), form(size=(9, 9), reduced=True)) is None
    assert decode_plain_jpeg(b"", form()) is None
    assert decode_plain_jpeg(b"\xff\xd8\xff" + bytes(50), form()) is None


@given(share=st.floats(0.02, 0.98), seed=st.integers(0, 5))
@settings(max_examples=30)
def test_what_is_cut_off_or_damaged_is_judged_by_pillow(share: float, seed: int) -> None:
    data = jpeg(noise(64, 64, seed))
    assert decode_plain_jpeg(data[: int(len(data) * share)], form()) is None
    with pytest.raises(UnreadableImage):
        decode_image(data[: int(len(data) * share)], "cut", form())


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=80)
def test_sizes_are_changed_as_pillow_does_it(height, width, size, channels) -> None:
    pixels = noise(height, width)[..., :channels]
    ours = scale_bytes(np.moveaxis(pixels, -1, 0), size).astype(int)
    image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    theirs = np.atleast_3d(pixels_of(image.resize(size[::-1], Image.Resampling.BILINEAR))).astype(int)
    assert np.abs(np.moveaxis(ours, 0, -1) - theirs).max() <= 1


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.tuples(st.integers(1, 99), st.integers(1, 99)),
    fit=st.sampled_from(["crop", "stretch", "pad"]),
)
def test_what_is_kept_are_whole_pixels_in_the_middle(height, width, size, fit) -> None:
    left, top, right, bottom = geometry((height, width), size, fit).box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert abs(left - (width - right)) <= 1
    assert abs(top - (height - bottom)) <= 1
    assert left == 0 or top == 0 or fit == "crop"


def test_a_placed_picture_is_the_callers_own() -> None:
    for size in ((8, 9), (4, 4), (20, 30)):
        pixels = noise(8, 9)
        placed = place_picture(pixels, size, "pad")
        assert placed.shape == (3, *size)
        placed[...] = 0
        assert pixels.any()


_CAPABILITY = """
import hashlib, numpy as np, torch
from striate.data.media.image.fitting import scale_bytes
digest = hashlib.sha256()
for k, size in enumerate(((16, 16), (50, 7), (90, 120))):
    digest.update(scale_bytes(np.random.default_rng(k).integers(0, 256, (1 + 2 * (k > 0), 61, 83), np.uint8), size))
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_any_processor_gives_the_same_bytes() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", _CAPABILITY],
            env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for capability in ("default", "avx2")
    }
    assert len(found) == 1
