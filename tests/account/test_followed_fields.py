"""Receptive fields through single operations are where the gradient is, for every unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from striate import summarize
from striate.account.field.intervals import input_fields, merged
from striate.account.field.rules_of_shapes import reshaped
from striate.account.observing.observation import observe_network

Step = Callable[[torch.Tensor], torch.Tensor]


class Only(nn.Module):
    """A network of one step."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.step(x)


def followed(step: Step, length: int) -> list[tuple[int, int]]:
    """First and last input row that each row of the result sees, as the account says."""
    seen = observe_network(Only(step), (1, length, length)).observer.entries.done[0].fields
    assert seen is not None
    lo, hi = (side.ravel().clip(0, length - 1).astype(int) for side in (seen[0].lo, seen[0].hi))
    return list(zip(lo.tolist(), hi.tolist(), strict=True))


def by_gradient(step: Step, length: int) -> list[tuple[int, int]]:
    """The same, by the gradient of each row."""
    x = torch.rand(1, 1, length, length, dtype=torch.float64, requires_grad=True)
    found = []
    for row in step(x)[0, 0]:
        (gradient,) = torch.autograd.grad(row.sum(), x, retain_graph=True)
        rows = (gradient[0, 0].abs().sum(1) > 1e-12).nonzero().flatten().tolist()
        found.append((rows[0], rows[-1]))
    return found


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("size", [3, 7, 13, 20, 29])
@pytest.mark.parametrize(
    "form",
    [
        {"mode": "bilinear", "align_corners": True},
        {"mode": "bilinear", "align_corners": False},
        {"mode": "bilinear", "antialias": True},
        {"mode": "bicubic", "align_corners": True},
        {"mode": "bicubic", "align_corners": False},
        {"mode": "bicubic", "antialias": True},
        {"mode": "nearest"},
        {"mode": "nearest-exact"},
    ],
    ids=lambda form: "-".join(map(str, form.values())),
)
def test_a_neighbor_with_weight_zero_is_not_seen(form: dict[str, Any], size: int) -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, size=(size, size), **form)

    assert followed(step, 7) == by_gradient(step, 7)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_a_factor_that_gives_no_whole_size_is_the_scale(mode: str) -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, scale_factor=1.3, mode=mode)

    assert step(torch.zeros(1, 1, 9, 9)).shape[2] == 11
    assert followed(step, 9) == by_gradient(step, 9)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.narrow(-2, 2, 3),
        lambda x: x.narrow(2, 2, 3),
        lambda x: x[..., 1::2, :],
        lambda x: x.select(-1, 3).unsqueeze(-1),
        lambda x: torch.stack(x.unbind(-1)[:2], -1),
        lambda x: x.split(3, -2)[1],
        lambda x: x.flip(-2),
        lambda x: x.repeat(1, 2, 1, 1)[:, 1:],
        lambda x: x.repeat(1, 1, 2, 1),
        lambda x: x.roll((2, -1), (-2, -1)),
        lambda x: x.index_fill(-1, torch.tensor([1], device=x.device), 0.0),
        lambda x: x.transpose(-1, -2).narrow(-1, 2, 3).transpose(-1, -2),
        lambda x: x.sum(-1, keepdim=True),
        lambda x: x.cumsum(-1),
        lambda x: nn.functional.glu(torch.cat([x, x], 1), -3),
        lambda x: nn.functional.glu(x[..., :6], -1),
        lambda x: x[:, [0]],
        lambda x: x.gather(-3, torch.zeros_like(x, dtype=torch.long)),
        lambda x: torch.zeros_like(x).scatter(1, torch.zeros_like(x, dtype=torch.long), x),
        lambda x: torch.cat([x, torch.ones_like(x)], -3) + torch.randn_like(x),
        lambda x: x * (1 + torch.bernoulli(torch.full_like(x, 0.5))),
    ],
    ids=[
        "narrow",
        "front-narrow",
        "slice",
        "select",
        "unbind",
        "split",
        "flip",
        "more-channels",
        "more-rows",
        "roll",
        "index-fill",
        "transpose",
        "sum",
        "cumsum",
        "gate",
        "gate-along-the-width",
        "list-of-channels",
        "gather",
        "scatter",
        "constants-and-noise",
        "random-mask",
    ],
)
def test_rows_see_what_their_gradient_reaches(step: Step) -> None:
    assert followed(step, 7) == by_gradient(step, 7)


@pytest.mark.parametrize(
    ("kernel", "dilation", "padding", "stride"), [(3, 1, 0, 1), (3, 2, 0, 1), (2, 1, 0, 2), (4, 1, 1, 3)]
)
def test_columns_see_their_windows_and_maps_of_them_what_lies_in_the_same_ones(
    kernel: int, dilation: int, padding: int, stride: int
) -> None:
    windows = {"kernel_size": kernel, "dilation": dilation, "padding": padding, "stride": stride}

    def columns(x: torch.Tensor) -> torch.Tensor:
        side = (x.shape[-1] + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        return nn.functional.unfold(x, **windows).sum(1, keepdim=True).unflatten(2, (side, side))

    def folded(x: torch.Tensor) -> torch.Tensor:
        mixed = nn.functional.unfold(x, **windows).sum(1, keepdim=True).expand(-1, kernel**2, -1)
        # At the border, fields go on beyond the windows that are there.
        return nn.functional.fold(mixed, x.shape[2:], **windows)[:, :, 4:-4]

    for step in (columns, folded):
        assert followed(step, 16) == by_gradient(step, 16)


class Mirrored(nn.Module):
    """The second pass is over the mirrored map."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(5)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).flatten(1).mean(1) + self.body(x.flip(-1)).flatten(1).mean(1)


def test_a_flip_changes_no_size() -> None:
    fields = [row.receptive_field for row in summarize(Mirrored(), (1, 6, 6)).rows]
    assert fields == [(size, size) for size in (3, 5, 7, 9, 11)] * 2


class Steps(nn.Module):
    """A convolution, a step between, and what comes after."""

    def __init__(self, step: Step, after: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.after, self.step = nn.Conv2d(1, 4, 3, padding=1, stride=stride), after, step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.step(self.conv(x)))


def in_windows(x: torch.Tensor) -> torch.Tensor:
    """There and back, as attention within windows of 4 × 4 does."""
    n, channels, height, width = x.shape
    windows = x.reshape(n, channels, height // 4, 4, width // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, channels)
    back = windows.reshape(n, height // 4, width // 4, 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
    return back.reshape(n, height, width, channels).permute(0, 3, 1, 2)


def test_positions_that_were_mixed_with_channels_are_found_again() -> None:
    last = summarize(Steps(in_windows, nn.Conv2d(4, 4, 3, padding=1), 2), (1, 32, 32)).rows[-1]
    assert (last.receptive_field, last.jump) == ((7, 7), (2, 2))


@pytest.mark.parametrize(
    ("network", "side", "field", "remark"),
    [
        (Steps(lambda x: x.repeat(1, 2, 1, 1), nn.Conv2d(8, 4, 3, padding=1)), 20, (5, 5), "small-field"),
        (Steps(lambda x: x, nn.Sequential(nn.Linear(20, 20), nn.Conv2d(4, 4, 3)), 2), 40, (7, 41), "whole-map"),
        (Steps(lambda x: x.unfold(2, 3, 1).mean(-1), nn.Identity(), 2), 40, (7, 3), "small-field"),
        (Steps(lambda x: x.sort(2).values, nn.Conv2d(4, 4, 3)), 20, (22, 5), "whole-map"),
        (Steps(lambda x: x.flatten(1).cumsum(1).view_as(x), nn.Conv2d(4, 4, 3)), 20, (22, 22), "whole-map"),
    ],
    ids=["channels repeated", "a layer over the width", "windows at the end", "rows sorted", "all mixed"],
)
def test_the_last_map_is_the_one_behind_a_step(
    network: nn.Module, side: int, field: tuple[int, int], remark: str
) -> None:
    ledger = summarize(network, (1, side, side))
    assert ledger.receptive_field == field
    fields = {found.code: found for found in ledger.remarks if found.code.endswith(("field", "whole-map"))}
    assert set(fields) == {f"account.{remark}"}
    if remark == "small-field":
        assert fields["account.small-field"].measured.startswith(
            f"a unit of the last map sees {field[0]}×{field[1]} of"
        )


def test_mixed_channels_keep_what_each_of_them_saw() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        early, late = x[:, :, :3], x[:, :, 3:6]
        both = torch.cat([early, late], dim=2).reshape(1, 2, 3, 6)  # channels that see different rows
        return nn.functional.channel_shuffle(both.repeat_interleave(2, 1), 2)[:, 1:2]

    assert followed(step, 6) == by_gradient(step, 6)


def test_what_was_flattened_is_written_out_where_it_is_read() -> None:
    rows, columns = input_fields((1, 2, 3, 4))
    seen = reshaped((rows, columns), (1, 2, 3, 4), (1, 24))
    written = [np.broadcast_to(axis.lo, (1, 2, 3, 4)).reshape(1, 24) for axis in (rows, columns)]
    for axis, expected in zip(seen, written, strict=True):
        assert axis.first.size < expected.size
        assert np.array_equal(axis.lo, expected)
        assert np.array_equal(axis.hi, expected)
    for dims in ([0], [1], [-1]):
        for axis, expected in zip(merged(seen, dims), written, strict=True):
            assert np.array_equal(axis.lo, expected.min(axis=dims[0], keepdims=True))
            assert np.array_equal(axis.hi, expected.max(axis=dims[0], keepdims=True))
    back = reshaped(seen, (1, 24), (1, 2, 3, 4))
    assert [axis.lo.squeeze().tolist() for axis in back] == [[0, 1, 2], [0, 1, 2, 3]]
