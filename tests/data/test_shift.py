"""Mirrors and shifts agree with NumPy's padding, on every kind of device."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.augment.warp import _gathered, shift_batch, source_pixels

PADDING = {"edge": "edge", "reflect": "reflect", "zero": "constant"}


def reference(x: np.ndarray, mirrored: tuple[bool, bool], shift: tuple[int, int], fill: str) -> np.ndarray:
    """One image (C, H, W): mirrored, padded on all sides, and the window cut out."""
    x = x[:, ::-1] if mirrored[0] else x
    x = x[:, :, ::-1] if mirrored[1] else x
    reach = max(map(abs, shift))
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)), PADDING[fill])
    top, left = reach - shift[0], reach - shift[1]
    return padded[:, top : top + x.shape[1], left : left + x.shape[2]]


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    reach=st.integers(0, 20),
    seed=st.integers(0, 2**32),
    fill=st.sampled_from(["edge", "reflect", "zero"]),
)
def test_windows_are_numpys(shape: tuple[int, int, int, int], reach: int, seed: int, fill: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)
    before = x.clone()
    mirror = torch.randint(0, 2, (2, shape[0]), generator=generator).bool().unbind(0)
    shift = torch.randint(-reach, reach + 1, (shape[0], 2), generator=generator)
    got = shift_batch(x, mirror, shift, fill)
    assert got.is_contiguous()
    assert torch.equal(x, before)
    for k, image in enumerate(got.numpy()):
        turned = (bool(mirror[0][k]), bool(mirror[1][k]))
        assert np.array_equal(image, reference(x[k].numpy(), turned, tuple(shift[k].tolist()), fill))
    other = _gathered(x, mirror, shift, fill, 0.0 if fill == "zero" else None)
    assert torch.equal(got, other)


@given(seed=st.integers(0, 2**32), fill=st.sampled_from(["edge", "reflect", "zero"]))
def test_a_value_takes_the_place_of_the_fill(seed: int, fill: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 200, (5, 1, 6, 7), dtype=torch.uint8, generator=generator)
    still = (torch.zeros(5, dtype=torch.bool),) * 2
    shift = torch.randint(-3, 4, (5, 2), generator=generator)
    got = shift_batch(x, still, shift, fill, 255)
    assert torch.equal(got == 255, shift_batch(torch.ones_like(x), still, shift, "zero") == 0)
    assert torch.equal(got, _gathered(x, still, shift, fill, 255))


def test_few_that_move_leave_the_others_and_the_source_alone() -> None:
    x = torch.randint(0, 256, (9, 2, 5, 5), dtype=torch.uint8)
    before, still = x.clone(), (torch.zeros(9, dtype=torch.bool),) * 2
    shift = torch.zeros(9, 2, dtype=torch.int64)
    shift[4] = torch.tensor([1, -2])
    got = shift_batch(x, still, shift, "edge")
    got[0] += 1
    assert torch.equal(x, before)
    assert torch.equal(got[5:], x[5:])
    assert torch.equal(got[4, :, 1:, :3], x[4, :, :-1, 2:])


def test_images_laid_out_otherwise_are_moved_the_same() -> None:
    x = torch.randint(0, 256, (6, 3, 8, 7), dtype=torch.uint8)
    mirror = (torch.tensor([True, False] * 3), torch.tensor([True, True, False] * 2))
    shift = torch.arange(12).view(6, 2) % 5 - 2
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(shift_batch(last, mirror, shift, "edge"), shift_batch(x, mirror, shift, "edge"))


def test_reflected_places_go_back_and_forth() -> None:
    assert source_pixels(np.arange(-5, 8), 3, "reflect").tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert source_pixels(torch.arange(-2, 3), 1, "reflect").tolist() == [0] * 5
    assert source_pixels(np.arange(-2, 5), 3, "edge").tolist() == [0, 0, 0, 1, 2, 2, 2]
