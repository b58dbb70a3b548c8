"""What is said of views and costs is true of the networks that it is said of."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

from striate import summarize
from striate.account.summarize import summarize_and_measure
from striate.models.build import build_model


def remarks_of(model: str | nn.Module, shape: tuple[int, ...]) -> dict:
    return {remark.code.removeprefix("account."): remark for remark in summarize(model, shape).remarks}


@pytest.mark.parametrize(
    ("model", "shape"),
    [("perceptron", (1, 28, 28)), ("mlp", (1, 28, 28)), ("madaline", (1, 28, 28)), ("fc(10)", (1, 9))],
)
def test_a_flattened_picture_is_no_map(model: str, shape: tuple[int, ...]) -> None:
    ledger = summarize(model, shape)
    assert (ledger.receptive_field, ledger.jump) == (shape[1:], (0,) * len(shape[1:]))
    assert "a unit of the last map" not in str(ledger)
    assert "small-field" not in {remark.code for remark in ledger.remarks}


def test_a_map_before_a_flattened_one_is_the_last() -> None:
    ledger = summarize("conv(1,3) flatten relu fc(2)", (1, 9, 9))
    assert (ledger.receptive_field, ledger.jump) == ((3, 3), (1, 1))
    remark = remarks_of("conv(1,3) flatten relu fc(2)", (1, 9, 9))["small-field"]
    assert remark.where == "conv1"


@pytest.mark.parametrize(("text", "first"), [("conv(4,3) lcn conv(4,3)", "lcn1"), ("conv(4,3) gn(2) conv(4,3)", "gn1")])
def test_a_mean_over_the_map_is_told_and_no_window_is_blamed(text: str, first: str) -> None:
    remarks = remarks_of(text, (1, 12, 12))
    assert remarks["whole-map"].where == f"from {first} on"
    assert "large-field" not in remarks
    # It is so: of a unit in the middle, the first pixel matters.
    network = build_model(text, (1, 12, 12)).double()
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x)[0, :, 4, 4].pow(2).sum(), x)
    assert gradient[0, 0, 0, 0] != 0


def test_fields_that_windows_made_large_are_told_so() -> None:
    remarks = remarks_of("conv(4,7,pad=3) conv(4,7,pad=3) gn(2)", (1, 8, 8))
    assert remarks["large-field"].where == "from conv2 on"
    assert "whole-map" in remarks
    assert "whole-map" not in remarks_of("conv(4,7,pad=3) conv(4,7,pad=3) bn", (1, 8, 8))


def test_what_was_measured_is_not_advised_again() -> None:
    text = "conv(4,7,pad=3) conv(4,7,pad=3)"
    (before,) = (r for r in summarize(text, (1, 8, 8)).remarks if r.code == "account.large-field")
    ledger, _ = summarize_and_measure(text, (1, 8, 8))
    (after,) = (r for r in ledger.remarks if r.code == "account.large-field")
    assert before.remedy.startswith("`--effective` (in Python `effective=True`) measures it")
    assert "--effective" not in after.remedy


@pytest.mark.parametrize(
    ("shape", "said"), [((28, 28), True), ((28, 20), True), ((3, 100), False), ((80, 3000), False)]
)
def test_a_picture_without_its_channel_is_told(shape: tuple[int, ...], said: bool) -> None:
    remarks = remarks_of("conv(2,3) fc(2)", shape)
    assert ("one-axis" in remarks) == said
    if said:
        assert f"1x{shape[0]}x{shape[1]}" in remarks["one-axis"].remedy


@pytest.mark.parametrize(
    ("whole", "halved", "shape"),
    [
        ("mlp(128,64)", "mlp(64,32)", (1, 28, 28)),
        ("madaline(400)", "madaline(200)", (1, 28, 28)),
        (
            "conv(16,3) bn conv(64,3) conv(64,5) gap fc(10)",
            "conv(8,3) bn conv(32,3) conv(32,5) gap fc(10)",
            (3, 20, 20),
        ),
        (
            "conv(64,3) conv(64,3,groups=64) conv(128,1) gap fc(10)",
            "conv(32,3) conv(32,3,groups=32) conv(64,1) gap fc(10)",
            (3, 9, 9),
        ),
        ("local(4,3) local(16,3) fc(3)", "local(2,3) local(8,3) fc(3)", (2, 9, 9)),
    ],
)
def test_half_the_channels_leave_what_is_said(whole: str, halved: str, shape: tuple[int, ...]) -> None:
    share = Fraction(summarize(halved, shape).params, summarize(whole, shape).params)
    remedy = remarks_of(whole, shape)["most-parameters"].remedy
    assert f"would leave about {round(100 * share)} % of the parameters" in remedy
    assert ("units" in remedy) == ("(" in whole and "conv" not in whole and "local" not in whole)


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 30), "half the length leaves half"), ((1, 20, 20), "half the side leaves a quarter")]
)
def test_half_the_side_leaves_what_is_said(shape: tuple[int, ...], said: str) -> None:
    assert said in remarks_of("conv(8,3) conv(16,3) conv(2,1)", shape)["most-computation"].remedy


def test_half_the_side_of_a_volume_leaves_an_eighth() -> None:
    text = "conv(8,3) conv(16,3) conv(2,1)"
    assert "half the side leaves an eighth" in remarks_of(text, (1, 9, 9, 9))["most-computation"].remedy
    shares = [summarize(text, (1, side, side, side)).macs for side in (200, 400)]
    assert 0.115 < shares[0] / shares[1] < 0.125


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.steps(x.transpose(1, 2))[0][:, -1])


def test_a_recurrent_layer_has_no_kernel() -> None:
    assert "%" not in remarks_of(Recurrent(), (8, 30))["most-parameters"].remedy
    remark = remarks_of(Recurrent(), (8, 30))["most-computation"]
    assert "kernel" not in remark.why + remark.remedy
    assert "at each position" in remark.why
