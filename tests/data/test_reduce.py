"""Large JPEGs decoded at a part of their size are what the whole would be, within the tolerance that is stated."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from striate.data.dataset import Preparation
from striate.data.media.image.jpeg import reduction
from striate.data.media.image.pictures import UnreadableImage, decode_image

MEAN_PHOTO, MEAN_PATTERN, MOST = 2.0, 9.0, 28


def jpeg(pixels: np.ndarray, quality: int = 95, turn: int = 1, subsampling: int = 0) -> bytes:
    out, exif = BytesIO(), Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling=subsampling, exif=exif)
    return out.getvalue()


def difference(data: bytes, size: tuple[int, int], fit: str = "crop", channels: int = 3) -> np.ndarray:
    forms = [Preparation("image", (channels, *size), fit, reduced=reduced) for reduced in (False, True)]  # type: ignore[arg-type]
    whole, part = (decode_image(data, "picture", form).astype(np.int64) for form in forms)
    return np.abs(whole - part)


def patterns() -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[:515, :611]
    made = {f"checks of {p}": (columns // p + rows // p) % 2 * 255 for p in (1, 2, 3, 5, 8)}
    made |= {f"stripes of {p}": columns // p % 2 * 255 for p in (1, 2, 3)}
    made["rings"] = (np.cos((columns - 300.0) ** 2 / 300 + (rows - 250.0) ** 2 / 300) + 1) * 127.5
    gray = {name: np.repeat(values[..., None], 3, 2).astype(np.uint8) for name, values in made.items()}
    page = Image.new("RGB", (611, 515), "white")
    for y in range(0, 515, 11):
        ImageDraw.Draw(page).text((0, y), "The quick brown fox jumps over the lazy dog " * 3, fill="black")
    noise = np.random.default_rng(0).integers(0, 256, (515, 611, 3), dtype=np.uint8)
    colors = np.stack([columns // 2 % 2 * 255, 0 * rows, rows // 3 % 2 * 255], -1).astype(np.uint8)
    return gray | {"print": np.asarray(page), "noise": noise, "colors": colors}


@pytest.mark.each_nth(5)
@pytest.mark.parametrize("name", list(patterns()))
@pytest.mark.parametrize("quality", [95, 75])
def test_patterns_made_to_break_it(name: str, quality: int) -> None:
    data = jpeg(patterns()[name], quality, subsampling=0 if quality == 95 else 2)
    for size in ((32, 32), (64, 48), (15, 60)):
        off = difference(data, size)
        assert (off.mean() <= MEAN_PATTERN, off.max() <= MOST) == (True, True), (off.mean(), off.max())


@pytest.mark.skipif("STRIATE_DATA" not in os.environ, reason="STRIATE_DATA names no folder with photographs")
def test_photographs() -> None:
    files = sorted((Path(os.environ["STRIATE_DATA"]) / "flowers").rglob("*.jpg"))[::5]
    assert files
    reduced = 0
    for file in files:
        data = file.read_bytes()
        for size in (32, 48):
            off = difference(data, (size, size))
            reduced += bool(off.any())
            assert (off.mean() <= MEAN_PHOTO, off.max() <= MOST) == (True, True), (file, off.mean(), off.max())
    assert reduced > len(files)


@given(
    turn=st.integers(1, 8),
    height=st.integers(150, 200),
    width=st.integers(150, 200),
    fit=st.sampled_from(["crop", "stretch", "pad"]),
    size=st.tuples(st.integers(8, 20), st.integers(8, 20)),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=40)
def test_it_lies_where_the_whole_lies(turn, height, width, fit, size, channels) -> None:
    """A ramp rises by more than a level a pixel: a shift by the few pixels that the last block has too many would show.

    At the very edge those pixels are part of the last value.
    """
    rows, columns = np.mgrid[:height, :width]
    ramp = np.stack([columns * 255 / width, rows * 255 / height, (rows + columns) * 255 / (height + width)], -1)
    data = jpeg(ramp.astype(np.uint8), 100, turn)
    assert reduction((height, width), size, fit) > 1 or reduction((width, height), size, fit) > 1 or fit != "crop"
    off = difference(data, size, fit, channels)
    assert off.max() <= 5
    assert off.mean() <= 1
    if fit != "pad":
        assert off[:, 1:-1, 1:-1].max() <= 2


@pytest.mark.parametrize(
    ("size", "target", "factor"),
    [
        ((100, 100), (26, 26), 1),
        ((100, 100), (25, 25), 2),
        ((100, 400), (25, 25), 2),
        ((3000, 4000), (224, 224), 4),
        ((3000, 4000), (160, 160), 8),
        ((30000, 30000), (8, 8), 8),
    ],
)
def test_twice_the_input_is_kept(size: tuple[int, int], target: tuple[int, int], factor: int) -> None:
    assert reduction(size, target, "crop") == factor


def test_what_is_cut_off_is_still_refused() -> None:
    data = jpeg(patterns()["noise"])
    for share in (0.3, 0.8, 0.999):
        with pytest.raises(UnreadableImage):
            decode_image(data[: int(len(data) * share)], "picture", Preparation("image", (3, 20, 20), reduced=True))


@pytest.mark.slow
def test_other_formats_and_small_pictures_are_decoded_whole() -> None:
    out = BytesIO()
    Image.fromarray(patterns()["noise"]).save(out, "PNG")
    assert not difference(out.getvalue(), (20, 20)).any()
    assert not difference(jpeg(patterns()["noise"]), (200, 200)).any()
    assert difference(jpeg(patterns()["noise"]), (100, 100)).any()
