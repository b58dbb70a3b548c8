"""Windows along an axis: torch says how many there are, its gradients what they cover."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from made_ledgers import made_row

from striate.account.remarks.axis_windows import AxisWindows, ways_out, windows_of

SMALL = st.integers(1, 5)


@given(size=st.integers(1, 20), kernel=SMALL, stride=SMALL, pad=st.integers(0, 3), dilation=st.integers(1, 3))
def test_windows_are_those_of_a_convolution(size: int, kernel: int, stride: int, pad: int, dilation: int) -> None:
    windows = AxisWindows(size, kernel, stride, pad, pad, dilation)
    assume(windows.steps >= 0)
    x = torch.zeros(1, 1, size, requires_grad=True)
    y = torch.nn.functional.conv1d(x, torch.ones(1, 1, kernel), None, stride, pad, dilation)
    y.sum().backward()
    assert windows.count == y.shape[-1]
    assert windows.uncovered() == (x.grad[0, 0] == 0).nonzero().flatten().tolist()


@given(size=st.integers(1, 30), kernel=st.integers(1, 7), stride=st.integers(1, 7), pad=st.integers(0, 3))
def test_every_way_out_covers_all_when_it_is_tried(size: int, kernel: int, stride: int, pad: int) -> None:
    windows = AxisWindows(size, kernel, stride, pad, pad)
    assume(windows.steps >= 0)
    for way in ways_out(windows):
        name, value, count = re.fullmatch(r"(pad|stride|input) (\d+) → (\d+)", way).groups()
        changed = {"pad": pad, "stride": stride, "input": size} | {name: int(value)}
        x = torch.zeros(1, 1, changed["input"], requires_grad=True)
        y = torch.nn.functional.conv1d(x, torch.ones(1, 1, kernel), None, changed["stride"], changed["pad"])
        y.sum().backward()
        assert y.shape[-1] == int(count)
        assert (x.grad > 0).all()


def test_seven_with_kernel_three_and_stride_three() -> None:
    windows = AxisWindows(7, 3, 3)
    assert windows.described() == "7 with kernel 3 and stride 3"
    assert windows.arithmetic() == "(7−3)/3+1 = 2.33"
    assert windows.uncovered() == [6]
    assert ways_out(windows) == ("pad 1 → 3", "stride 2 → 3", "input 9 → 3")


def test_padding_and_dilation_are_in_the_words() -> None:
    windows = AxisWindows(10, 3, 2, 1, 1, 2)
    assert windows.described() == "10 with kernel 3, stride 2, padding 1 and dilation 2"
    assert windows.arithmetic() == "(10+2−5)/2+1 = 4.5"


def test_windows_of_a_row_are_one_an_axis() -> None:
    row = made_row("pool", "pool", in_shape=(4, 8, 9), settings={"kernel": (2, 3), "stride": (2, 3), "padding": (0, 1)})
    assert windows_of(row) == (AxisWindows(8, 2, 2), AxisWindows(9, 3, 3, 1, 1))


@pytest.mark.parametrize(
    ("kind", "settings"), [("relu", {}), ("ConvTranspose2d", {"kernel": (2, 2), "stride": (2, 2)})]
)
def test_layers_without_windows_have_none(kind: str, settings: dict) -> None:
    assert windows_of(made_row("layer", kind, settings=settings)) == ()
