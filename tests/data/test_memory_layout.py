"""Definite strides, also where an axis has length 1."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.data.memory_layout import by_parts, channels_last, contiguous

SHAPES = st.lists(st.integers(1, 3), min_size=2, max_size=5)


def strides_of(shape: torch.Size, memory_format: torch.memory_format) -> tuple[int, ...]:
    """Those of torch for axes of length 2 at least, as products of the lengths given."""
    order = range(len(shape)) if memory_format == torch.contiguous_format else [0, *range(2, len(shape)), 1]
    strides, step = {}, 1
    for axis in reversed(list(order)):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides[axis] for axis in range(len(shape)))


@given(SHAPES, st.booleans())
def test_numbers_stay_and_strides_are_definite(shape, turned) -> None:
    x = torch.arange(torch.Size(shape).numel()).view(shape)
    x = x.transpose(0, -1) if turned else x
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for made, memory_format in (
        (contiguous(x), torch.contiguous_format),
        (channels_last(x), formats.get(x.ndim, torch.contiguous_format)),
    ):
        assert torch.equal(made, x)
        assert made.stride() == strides_of(x.shape, memory_format)


def test_the_layout_of_a_gray_batch_is_that_of_the_maps() -> None:
    x = torch.randn(2, 1, 8, 8)
    convolution = nn.Conv2d(1, 3, 3)
    assert convolution(contiguous(channels_last(x))).is_contiguous()
    assert convolution(channels_last(contiguous(x))).is_contiguous(memory_format=torch.channels_last)


def test_what_lies_well_is_not_copied() -> None:
    x = torch.randn(2, 1, 8, 8)
    assert contiguous(x).data_ptr() == channels_last(x).data_ptr() == x.data_ptr()


@pytest.mark.parametrize(("device", "fewest", "most"), [("cpu", 4, 64), ("meta", 1, 1)])
def test_an_accelerator_is_given_few_operations_and_a_cpu_parts_that_fit_into_its_cache(device, fewest, most) -> None:
    parts: list[slice] = []

    def change(part: torch.Tensor, rows: slice) -> torch.Tensor:
        parts.append(rows)
        return part

    by_parts(change, torch.zeros(64, 3, 128, 128, dtype=torch.uint8, device=device))
    assert fewest <= len(parts) <= most
