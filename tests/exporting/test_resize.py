"""Resizing inside an exported network gives the very bytes that reading a picture gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.media.image.fitting import geometry, place_picture, placement, uncropped_size
from striate.exporting.resize import fit_axes, resize, whole_axes

SIZES = [(32, 32), (61, 47), (9, 80), (200, 131)]


def _picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    rough = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(rough).resize((width, height))).astype(int)
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_every_byte_is_that_of_a_file_that_is_read(fit: str, size: tuple[int, int]) -> None:
    for source in SIZES:
        pixels = _picture(*source)
        found, (down, right) = resize(torch.from_numpy(pixels)[None], size, fit)
        assert np.array_equal(found[0].numpy(), place_picture(pixels, size, fit)), source
        placed = placement(source, size, fit)
        assert np.allclose([right.scale, down.scale], placed.scale)
        assert np.allclose([right.shift, down.shift], placed.offset, atol=1e-4)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_geometry_is_that_of_files_also_where_a_half_is_rounded(fit: str) -> None:
    for height in range(1, 60, 7):
        for width in range(1, 60, 6):
            how = geometry((height, width), (14, 8), fit)
            down, right = fit_axes(height, width, (14, 8), fit)
            left, top, far_right, bottom = how.box
            found = [int(part) for part in (*down, *right)]
            assert found == [top, bottom - top, how.inner[1], how.offset[1], *_across(how)]
            assert (left, far_right - left) == tuple(found[4:6])
            assert whole_axes(height, width, (14, 8), fit) == uncropped_size((height, width), (14, 8), fit)


def _across(how: object) -> list[int]:
    left, _, right, _ = how.box
    return [left, right - left, how.inner[0], how.offset[0]]


@pytest.mark.slow
def test_bytes_agree_for_photographs_of_many_pixels_and_for_gray_ones() -> None:
    for source, size in [((1500, 2100), (224, 224)), ((3000, 211), (96, 160)), ((97, 96), (512, 384))]:
        pixels = _picture(*source)
        gray = np.ascontiguousarray(pixels[..., :1])
        found, _ = resize(torch.from_numpy(pixels)[None], size, "crop")
        assert np.array_equal(found[0].numpy(), place_picture(pixels, size, "crop"))
        found, _ = resize(torch.from_numpy(gray)[None], size, "pad")
        assert np.array_equal(found[0].numpy(), place_picture(gray[..., 0], size, "pad"))
