"""Windows along an axis: torch says how many there are, its gradients what they cover."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate.layers.axis_windows import AxisWindows, same_padding

SMALL = st.integers(1, 5)


@given(size=st.integers(1, 20), kernel=SMALL, stride=SMALL, pad=st.integers(0, 3), dilation=st.integers(1, 3))
def test_windows_are_those_of_a_convolution(size: int, kernel: int, stride: int, pad: int, dilation: int) -> None:
    windows = AxisWindows(size, kernel, stride, pad, pad, dilation)
    if windows.steps < 0:
        assert windows.count == 0
        assert windows.uncovered() == list(range(size))
        return
    x = torch.zeros(1, 1, size, requires_grad=True)
    y = torch.nn.functional.conv1d(x, torch.ones(1, 1, kernel), None, stride, pad, dilation)
    y.sum().backward()
    assert windows.count == y.shape[-1]
    assert windows.uncovered() == (x.grad[0, 0] == 0).nonzero().flatten().tolist()


@given(size=st.integers(1, 20), kernel=SMALL, stride=SMALL, before=st.integers(0, 3), after=st.integers(0, 3))
def test_padding_before_and_after_count_apart(size: int, kernel: int, stride: int, before: int, after: int) -> None:
    windows = AxisWindows(size, kernel, stride, before, after)
    if windows.steps < 0:
        return
    padded = nn.functional.pad(x := torch.zeros(1, 1, size, requires_grad=True), (before, after))
    y = nn.functional.conv1d(padded, torch.ones(1, 1, kernel), None, stride)
    y.sum().backward()
    assert windows.padded == padded.shape[-1]
    assert windows.count == y.shape[-1]
    assert windows.uncovered() == (x.grad[0, 0] == 0).nonzero().flatten().tolist()


@given(size=st.integers(1, 20), kernel=SMALL, stride=SMALL, dilation=st.integers(1, 3), padded=st.booleans())
def test_rounded_up_there_are_as_many_as_torch_pools(
    size: int, kernel: int, stride: int, dilation: int, padded: bool
) -> None:
    pad = kernel // 2 if padded else 0
    windows = AxisWindows(size, kernel, stride, pad, pad, dilation, round_up=True)
    try:
        count = nn.MaxPool1d(kernel, stride, pad, dilation, ceil_mode=True)(torch.zeros(1, 1, size)).shape[2]
    except RuntimeError:
        count = 0
    assert windows.count == count


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(kernel=st.integers(1, 6), dilation=st.integers(1, 3), size=st.integers(1, 12))
def test_same_padding_keeps_the_size_and_puts_the_odd_one_after_as_torch_does(
    kernel: int, dilation: int, size: int
) -> None:
    before, after = same_padding(AxisWindows(size, kernel, dilation=dilation).span)
    x, weight = torch.randn(1, 1, size), torch.randn(1, 1, kernel)
    wanted = nn.functional.conv1d(x, weight, padding="same", dilation=dilation)
    given_out = nn.functional.conv1d(nn.functional.pad(x, (before, after)), weight, dilation=dilation)
    torch.testing.assert_close(given_out, wanted)
