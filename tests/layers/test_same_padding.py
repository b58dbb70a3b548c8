"""Same padding gives ⌈size / stride⌉ for any layer behind it, and never wins a maximum."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from striate import reference
from striate.errors import StriateError
from striate.layers.convolution import SamePadding

CONVOLVE = (functional.conv1d, functional.conv2d, functional.conv3d)


@given(
    size=st.lists(st.integers(1, 13), min_size=1, max_size=3),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 5),
    dilation=st.integers(1, 3),
)
def test_the_output_is_the_size_over_the_stride_rounded_up(size, kernel, stride, dilation) -> None:
    x = torch.ones(1, 1, *size, dtype=torch.float64)
    layer = SamePadding(kernel, stride, dilation)
    weight = torch.ones(1, 1, *[kernel] * len(size), dtype=torch.float64)
    out = CONVOLVE[len(size) - 1](layer(x), weight, stride=stride, dilation=dilation)
    assert tuple(out.shape[2:]) == tuple(-(-n // stride) for n in size)
    for before, after in layer.pads(size):
        assert after - before in (0, 1), "the odd zero goes behind"


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_with_stride_1_it_is_the_same_padding_of_torch_and_of_the_reference(kernel) -> None:
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = functional.conv2d(SamePadding(kernel)(x), weight)
    torch.testing.assert_close(found, torch.from_numpy(reference.convolve(x.numpy(), weight.numpy(), padding="same")))
    if kernel % 2:  # with even kernels torch warns that it copies the input
        torch.testing.assert_close(found, functional.conv2d(x, weight, padding="same"))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(224, 3, 2, (0, 1)), (225, 3, 2, (1, 1)), (224, 7, 2, (2, 3)), (5, 2, 1, (0, 1)), (6, 1, 4, (0, 0))],
)
def test_published_pads_of_tensorflow(size, kernel, stride, pads) -> None:
    assert SamePadding(kernel, stride).pads((size,)) == (pads,)


def test_sizes_may_differ_along_the_axes() -> None:
    layer = nn.Sequential(SamePadding((2, 5), (1, 3)), nn.Conv2d(1, 1, (2, 5), (1, 3)))
    assert layer(torch.zeros(1, 1, 7, 8)).shape == (1, 1, 7, 3)


@given(size=st.integers(1, 12), kernel=st.integers(1, 5), stride=st.integers(1, 4))
def test_padding_never_wins_the_maximum_of_negative_numbers(size, kernel, stride) -> None:
    x = torch.full((1, 1, size, size), -3.0)
    out = nn.Sequential(SamePadding(kernel, stride, value=-math.inf), nn.MaxPool2d(kernel, stride))(x)
    assert (out == -3).all()
    assert out.shape[2] == -(-size // stride)
    if kernel > stride and size > 1:
        assert (nn.MaxPool2d(kernel, stride)(SamePadding(kernel, stride)(x)) == 0).any(), "which zeros would"


@given(size=st.integers(1, 9), kernel=st.integers(1, 5), stride=st.integers(1, 4), dilation=st.integers(2, 4))
def test_a_dilated_maximum_is_finite_or_refused(size, kernel, stride, dilation) -> None:
    x = torch.zeros(1, 1, size)
    try:
        padded = SamePadding(kernel, stride, dilation, value=-math.inf)(x)
    except StriateError:
        zero = SamePadding(kernel, stride, dilation)(x + 1)
        assert (functional.max_pool1d(zero, kernel, stride, dilation=dilation) == 0).any()
        return
    assert torch.isfinite(functional.max_pool1d(padded, kernel, stride, dilation=dilation)).all()


def test_it_follows_the_size_of_each_input() -> None:
    layer = nn.Sequential(SamePadding(3, 2), nn.Conv2d(1, 1, 3, 2))
    assert [layer(torch.zeros(1, 1, n, n)).shape[2] for n in (7, 8, 9)] == [4, 4, 5]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SamePadding(0),
        lambda: SamePadding(3, 0),
        lambda: SamePadding(3, 1, -1),
        lambda: SamePadding((3, 2.5)),
        lambda: SamePadding(3, value=math.nan),
        lambda: SamePadding(3)(torch.zeros(1, 4)),
        lambda: SamePadding(3)(torch.zeros(1, 1, 4, 0)),
        lambda: SamePadding(3)(torch.zeros(1, 1, 2, 2, 2, 2)),
    ],
)
def test_what_has_no_meaning_is_refused(make) -> None:
    with pytest.raises(StriateError):
        make()


def test_sizes_for_another_number_of_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers for 1"):
        SamePadding((3, 3))(torch.zeros(1, 1, 5))
