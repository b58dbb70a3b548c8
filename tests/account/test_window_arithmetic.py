"""What does not fit, in words, and ways out that torch confirms."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from made_ledgers import made_row

from striate import summarize
from striate.account.remarks.window_arithmetic import arithmetic, described, ways_out, windows_of
from striate.layers.axis_windows import AxisWindows


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
    assert described(windows) == "7 with kernel 3 and stride 3"
    assert arithmetic(windows) == "(7−3)/3+1 = 2.33"
    assert windows.uncovered() == [6]
    assert ways_out(windows) == ("pad 1 → 3", "stride 2 → 3", "input 9 → 3")


def test_padding_and_dilation_are_in_the_words() -> None:
    windows = AxisWindows(10, 3, 2, 1, 1, 2)
    assert described(windows) == "10 with kernel 3, stride 2, padding 1 and dilation 2"
    assert arithmetic(windows) == "(10+2−5)/2+1 = 4.5"


def test_padding_that_differs_before_and_after() -> None:
    windows = AxisWindows(9, 3, 3, 1, 0)
    assert described(windows) == "9 with kernel 3, stride 3 and padding 1 before and 0 after"
    assert arithmetic(windows) == "(9+1−3)/3+1 = 3.33"
    assert ways_out(windows) == ("pad 0 → 3", "stride 1 → 8", "input 11 → 4")
    assert ways_out(AxisWindows(10, 5, 4, 0, 1))[0] == "pad 1 before and 2 after → 3"


@given(
    size=st.integers(1, 20), kernel=st.integers(1, 7), stride=st.integers(1, 7), before=st.integers(0, 3),
    after=st.integers(0, 3),
)  # fmt: skip
def test_other_padding_is_at_most_half_a_window_and_covers_all(
    size: int, kernel: int, stride: int, before: int, after: int
) -> None:
    windows = AxisWindows(size, kernel, stride, before, after)
    assume(windows.steps >= 0)
    for way in ways_out(windows):
        if found := re.fullmatch(r"pad (\d+)(?: before and (\d+) after)? → (\d+)", way):
            pads = int(found[1]), int(found[2] or found[1])
            assert pads != (before, after)
            assert pads[0] <= max(before, kernel // 2)
            assert pads[1] <= max(after, kernel // 2)
            assert before != after or pads[0] == pads[1] > before
            padded = torch.nn.functional.pad(x := torch.zeros(1, 1, size, requires_grad=True), pads)
            y = torch.nn.functional.conv1d(padded, torch.ones(1, 1, kernel), None, stride)
            y.sum().backward()
            assert y.shape[-1] == int(found[3])
            assert (x.grad > 0).all()


def test_a_window_of_padding_alone_is_no_way_out() -> None:
    # Of 4 positions with kernel 2 and stride 4 the last two are covered with a padding of 2 only: a whole window.
    assert ways_out(AxisWindows(4, 2, 4)) == ("stride 2 → 2",)


def test_windows_of_a_row_are_one_an_axis() -> None:
    row = made_row("pool", "pool", in_shape=(4, 8, 9), settings={"kernel": (2, 3), "stride": (2, 3), "padding": (0, 1)})
    assert windows_of(row) == (AxisWindows(8, 2, 2), AxisWindows(9, 3, 3, 1, 1))


def test_padding_before_and_after_a_map_are_both_read() -> None:
    class PaddedConv(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.nn.functional.pad(x, (1, 0, 1, 0)))

    (row,) = summarize(torch.nn.Sequential(PaddedConv(1, 1, 3, stride=3)), (1, 9, 9)).rows
    assert windows_of(row) == (AxisWindows(9, 3, 3, 1, 0),) * 2
    assert row.leftover == tuple(len(windows.uncovered()) for windows in windows_of(row))


@pytest.mark.parametrize(
    ("kind", "settings"), [("relu", {}), ("ConvTranspose2d", {"kernel": (2, 2), "stride": (2, 2)})]
)
def test_layers_without_windows_have_none(kind: str, settings: dict) -> None:
    assert windows_of(made_row("layer", kind, settings=settings)) == ()
