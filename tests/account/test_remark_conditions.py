"""What remarks depend on: each is said on one side of its condition, and not on the other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate import summarize


def codes(model: str | nn.Module, shape: tuple[int, ...]) -> set[str]:
    return {remark.code.removeprefix("account.") for remark in summarize(model, shape).remarks}


class Stream(nn.Module):
    """A sum that goes on beside its normalization, as in residual networks with normalization first."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
        self.head = nn.Sequential(nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stream = x + self.body(x)
        return stream + self.head(stream)


def test_a_bias_that_reaches_more_than_the_normalization_is_not_superfluous() -> None:
    network, x = Stream(), torch.randn(4, 3, 8, 8)
    before = network(x).detach()
    with torch.no_grad():
        network.body[0].bias.add_(3.0)
    assert not torch.allclose(network(x), before, atol=0.1)
    assert "bias-before-norm" not in codes(network, (3, 8, 8))
    assert "bias-before-norm" in codes(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)), (3, 8, 8))


def test_a_line_is_no_single_position() -> None:
    text = "conv(4,3,pad=1) gap fc(2)"
    assert "single-position" not in codes(text, (1, 1, 9))
    assert "single-position" in codes(text, (1, 1, 1))


@pytest.mark.parametrize(("units", "waits"), [(1000, False), (2500, True)])
def test_weights_that_stay_in_the_cache_keep_nobody_waiting(units: int, waits: bool) -> None:
    # 4 and 10 MB of weights, each used once a sample.
    assert ("low-intensity" in codes(f"fc({units}) relu fc(10)", (1000,))) == waits


@pytest.mark.parametrize(("positions", "waits"), [(2, True), (6, False)])
def test_weights_that_are_used_twice_are_still_waited_for(positions: int, waits: bool) -> None:
    # 2 FLOPs for each use of 4 bytes: 1 FLOP a byte at two positions, 3 at six.
    assert ("low-intensity" in codes("conv(1024,3) gap fc(10)", (1024, positions + 2))) == waits


def test_a_layer_that_runs_again_moves_its_bytes_again() -> None:
    layer = nn.Linear(2000, 2000)
    found = [r for r in summarize(nn.Sequential(layer, layer, layer), (2000,)).remarks if "intensity" in r.code]
    assert [remark.measured.partition(" of")[0] for remark in found] == ["3 layers with 100 %"]


def test_a_field_larger_than_one_side_is_larger_than_the_input() -> None:
    text = "conv(4,5) relu conv(4,5,pad=2) fc(2)"
    assert "large-field" in codes(text, (1, 8, 40))
    (found,) = (r for r in summarize(text, (1, 8, 40)).remarks if r.code == "account.large-field")
    assert "the whole height of the image" in found.why
    assert "larger than the height of the input" in found.measured
    assert "large-field" not in codes(text, (1, 20, 40))


def test_padding_of_more_than_half_a_window_is_never_advised() -> None:
    # Two positions of padding would cover all six, and torch refuses them.
    (remark,) = (r for r in summarize("pool(3,pad=1) fc(2)", (1, 6, 6)).remarks if r.code == "account.leftover")
    assert "pad " not in remark.remedy
    assert "stride 2" in remark.remedy
    assert "leftover" not in codes("pool(3,stride=2,pad=1) fc(2)", (1, 6, 6))
