"""Parts of a picture are those of the whole, however it is turned, and whatever its mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.media.image.pictures import PictureParts, UnreadableImage, decode_image
from striate.data.media.medium import Preparation

BOX = (3, 5, 7, 9)


def compare(file: Path, channels: int, size: tuple[int, int]) -> None:
    whole = decode_image(file, file.name, Preparation("image", (channels, *size)))
    parts = PictureParts(file, file.name, Preparation("image", (channels, 8, 8)))
    assert parts.size == size
    top, left, height, width = BOX
    assert (parts.read(BOX) == whole[:, top : top + height, left : left + width]).all()
    assert (parts.read((0, 0, *size)) == whole).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_read_upright(orientation: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 23, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "turned.png"
    Image.fromarray(pixels).save(file, exif=exif)
    compare(file, 3, (23, 16) if orientation > 4 else (16, 23))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_a_part_is_flattened_as_the_whole_is(mode: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (16, 23, 4), np.uint8)
    image = Image.fromarray(values.astype(np.uint16)[..., 0] * 257) if mode == "I;16" else Image.fromarray(values)
    image = image if mode == "I;16" else image.convert("RGB").convert(mode) if mode in "P1" else image.convert(mode)
    file = tmp_path / f"one.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(file, **({"transparency": 3} if mode == "P" else {}))
    for channels in (1, 3):
        compare(file, channels, (16, 23))


def test_values_that_are_no_colors_are_told_with_the_part(tmp_path: Path) -> None:
    file = tmp_path / "heights.tif"
    Image.fromarray(np.full((16, 23), 7.5, np.float32)).save(file)
    parts = PictureParts(file, "heights.tif", Preparation("image", (1, 8, 8)))
    with pytest.raises(UnreadableImage, match="floating-point values"):
        parts.read(BOX)
