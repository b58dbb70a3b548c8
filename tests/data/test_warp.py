"""Images and masks are moved as the record says: exactly where no pixel falls between others, else as Pillow does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from striate.data.augment.warp import Warp


def still(batch: int, **fields: torch.Tensor) -> Warp:
    kept = {"flip": torch.zeros(batch, dtype=torch.bool), "shift": torch.zeros(batch, 2, dtype=torch.int64)}
    return Warp(**(kept | fields))


def smooth(height: int = 40, width: int = 48) -> np.ndarray:
    """A picture without fine detail, so that two interpolations differ little: (H, W) uint8."""
    down, right = np.mgrid[:height, :width]
    return (127 + 60 * np.sin(down / 5) + 60 * np.cos(right / 7 + down / 11)).round().astype(np.uint8)


def turned(degrees: float) -> torch.Tensor:
    """Counterclockwise for the eye, on (right, down)."""
    angle = math.radians(degrees)
    return torch.tensor([[[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]]).double()


@given(
    shift=st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
    flip=st.booleans(),
    upside_down=st.booleans(),
    fill=st.sampled_from([None, 0, 255]),
)
def test_shifts_and_mirrors_move_bytes_exactly(shift, flip, upside_down, fill) -> None:
    x = torch.arange(2 * 3 * 9 * 10).view(2, 3, 9, 10).to(torch.uint8)
    warp = still(
        2,
        flip=torch.tensor([flip, False]),
        vertical_flip=torch.tensor([upside_down, False]),
        shift=torch.tensor([shift, (0, 0)]),
    )
    source = x.numpy()[0][..., ::-1] if flip else x.numpy()[0]
    source = source[:, ::-1] if upside_down else source
    moved = warp.apply(x, fill=fill)
    assert moved.dtype == torch.uint8
    assert torch.equal(moved[1], x[1])
    for i in range(9):
        for j in range(10):
            row, column = i - shift[0], j - shift[1]
            inside = 0 <= row < 9 and 0 <= column < 10
            near = source[:, min(max(row, 0), 8), min(max(column, 0), 9)]
            expected = near if inside or fill is None else np.full(3, fill)
            assert np.array_equal(moved.numpy()[0][:, i, j], expected)


@given(
    shift=st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    flip=st.booleans(),
    upside_down=st.booleans(),
    nearest=st.booleans(),
    fill=st.sampled_from([None, 255]),
)
def test_the_interpolated_way_agrees_with_the_exact_one(shift, flip, upside_down, nearest, fill) -> None:
    x = torch.randint(0, 256, (1, 3, 11, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fields = {
        "flip": torch.tensor([flip]),
        "vertical_flip": torch.tensor([upside_down]),
        "shift": torch.tensor([shift]),
    }
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    sampled = still(1, box=whole, **fields).apply(x, nearest=nearest, fill=fill)
    assert torch.equal(sampled, still(1, **fields).apply(x, fill=fill))


@pytest.mark.parametrize("degrees", [-120, -20, 7, 45, 90])
def test_rotation_is_pillows(degrees: float) -> None:
    image = smooth()
    expected = np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=0)).astype(int)
    x = torch.from_numpy(image)[None, None]
    got = still(1, linear=turned(degrees)).apply(x, fill=0)[0, 0].numpy().astype(int)
    # Pillow and torch treat the outermost half pixel differently.
    inside = np.asarray(Image.new("L", image.shape[::-1], 1).rotate(degrees)) == 1
    eroded = inside & np.roll(inside, 2, 0) & np.roll(inside, -2, 0) & np.roll(inside, 2, 1) & np.roll(inside, -2, 1)
    eroded[:2], eroded[-2:], eroded[:, :2], eroded[:, -2:] = False, False, False, False
    assert eroded.sum() > 400
    assert np.abs(got - expected)[eroded].max() <= 2


def test_an_affine_movement_is_pillows() -> None:
    image = smooth()
    height, width = image.shape
    linear = turned(25) @ torch.tensor([[1.0, 0.3], [0.0, 1.0]]).double() * 1.2
    shift = torch.tensor([[3, -5]])
    # Pillow's transform maps places of the output, pixel corners at integers, to places of the input.
    back = np.linalg.inv(linear[0].numpy())
    center = np.array([width / 2, height / 2])
    offset = center - back @ (center + shift[0].flip(0).numpy())
    data = (*back[0], offset[0], *back[1], offset[1])
    expected = np.asarray(
        Image.fromarray(image).transform((width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    ).astype(int)
    got = still(1, linear=linear, shift=shift).apply(torch.from_numpy(image)[None, None])[0, 0].numpy().astype(int)
    compared = expected > 0  # Pillow leaves what is outside black; the picture has no black
    assert compared.sum() > 1000
    assert np.abs(got - expected)[compared].max() <= 2


def test_a_crop_is_pillows_resize_of_the_box() -> None:
    image = smooth()
    height, width = image.shape
    box = torch.tensor([[0.25, 0.125, 0.5, 0.5]])
    left, top, right, bottom = width * 0.125, height * 0.25, width * 0.625, height * 0.75
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    got = still(1, box=box).apply(torch.from_numpy(image)[None, None])[0, 0].numpy().astype(int)
    difference = np.abs(got - np.asarray(resized).astype(int))
    assert difference[2:-2, 2:-2].max() <= 2  # Pillow ends at the box, we see the pixels beside it


def test_what_is_outside_repeats_the_edge_of_an_image_and_is_ignored_in_a_mask() -> None:
    x = torch.full((1, 1, 20, 20), 200, dtype=torch.uint8)
    small = still(1, linear=turned(30) * 0.5)
    assert small.apply(x).eq(200).all()
    mask = small.apply(x, nearest=True, fill=255)
    assert set(mask.unique().tolist()) == {200, 255}
    assert 80 < int((mask == 200).sum()) < 120  # half the side: a quarter of the area


def test_a_mask_moves_as_its_image_does() -> None:
    image = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    image[..., 20:40, 12:44] = 255
    warp = still(1, linear=turned(33) * 0.9, flip=torch.tensor([True]), shift=torch.tensor([[5, -3]]))
    as_image = warp.apply(image, fill=0) > 127
    as_mask = warp.apply((image > 0).to(torch.uint8), nearest=True, fill=0) == 1
    assert int((as_image & as_mask).sum()) > 400
    assert int((as_image ^ as_mask).sum()) <= 12  # along the edge, where a pixel is half of each


def test_images_that_nothing_bends_keep_their_bytes_beside_others() -> None:
    x = torch.randint(0, 256, (3, 1, 15, 15), dtype=torch.uint8)
    linear = torch.cat([torch.eye(2, dtype=torch.float64)[None], turned(20), torch.eye(2, dtype=torch.float64)[None]])
    moved = still(3, linear=linear).apply(x)
    assert torch.equal(moved[0], x[0])
    assert torch.equal(moved[2], x[2])
    assert not torch.equal(moved[1], x[1])
    assert torch.equal(moved[1:2], still(1, linear=turned(20)).apply(x[1:2]))


def test_applying_leaves_the_original_alone() -> None:
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    before = x.clone()
    still(2, linear=torch.cat([turned(20), turned(0)])).apply(x)
    still(2, shift=torch.tensor([[1, 1], [0, 0]]), flip=torch.tensor([True, False])).apply(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("side", [32, 80])
def test_a_mask_is_cropped_as_its_image_is(side: int) -> None:
    image = torch.zeros(2, 1, side, side, dtype=torch.uint8)
    image[..., side // 4 : side // 2, side // 8 : side // 2] = 255
    box = torch.tensor([[1 / 8, 0, 1 / 2, 3 / 4], [0, 1 / 16, 5 / 8, 5 / 8]])
    warp = still(2, box=box, flip=torch.tensor([True, False]), vertical_flip=torch.tensor([True, True]))
    as_image, as_mask = warp.apply(image) > 127, warp.apply(image, nearest=True, fill=7)
    assert set(as_mask.unique().tolist()) == {0, 255}  # a crop shows nothing from outside
    assert int((as_image & (as_mask == 255)).sum()) > side * side / 6
    assert int((as_image ^ (as_mask == 255)).sum()) <= 4 * side  # along the edge
