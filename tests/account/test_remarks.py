"""Remarks on the design: each remark is true of the network that it is said of, and said once."""

from __future__ import annotations

import pytest
import torch
from made_ledgers import made_ledger, made_row
from torch import nn

from striate import summarize
from striate.account.remarks.parts import teacher_remarks
from striate.models.build import build_model


def remarks_of(text: str, shape: tuple[int, ...]) -> dict:
    return {remark.code.removeprefix("account."): remark for remark in summarize(text, shape).remarks}


def test_what_does_not_fit_comes_with_arithmetic_and_ways_out() -> None:
    remark = remarks_of("conv(4,3,stride=3) relu fc(2)", (1, 7, 9))["leftover"]
    assert remark.severity == "warning"
    assert remark.where == "conv1"
    assert remark.measured == "7 with kernel 3 and stride 3 does not fit: (7−3)/3+1 = 2.33; the last row is never seen"
    assert remark.remedy == "rows: pad 1 → 3; stride 2 → 3; input 9 → 3."
    square = remarks_of("conv(4,3,stride=3) relu fc(2)", (1, 7, 7))["leftover"]
    assert square.remedy == "pad 1 → 3; stride 2 → 3; input 9 → 3."


def test_ways_out_name_their_axis_where_the_axes_differ() -> None:
    remark = remarks_of("conv(4,3x4,stride=3x5)", (1, 7, 8))["leftover"]
    assert remark.remedy == "rows: pad 1 → 3; stride 2 → 3; input 9 → 3; columns: stride 4 → 2."


def test_positions_that_padding_copies_are_read_there() -> None:
    text = "conv(1,3,stride=5,pad=1,dilation=3,padding_mode=circular)"
    assert remarks_of(text, (1, 9, 9))["skipped"].why == "These positions are read only where the padding copies them."
    assert "reach no later layer" in remarks_of(text.replace("circular", "zeros"), (1, 9, 9))["skipped"].why
    text = "conv(1,3,stride=3,padding_mode=replicate)"
    assert "seen only in padding that copies it" in remarks_of(text, (1, 7, 7))["leftover"].measured


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 7), "the last position is never seen"),
        ((1, 7, 7), "the last row and column are never seen"),
        ((1, 8, 7), "the last 2 rows and 1 column are never seen"),
        ((1, 8, 9, 9), "the last 2 slices are never seen"),
    ],
)
def test_what_is_never_seen_is_named(shape: tuple[int, ...], said: str) -> None:
    assert said in remarks_of("pool(3) fc(2)", shape)["leftover"].measured


def test_layers_that_do_not_fit_alike_are_one_remark() -> None:
    remarks = summarize("conv(4,3,pad=1) pool(3,stride=2) relu pool(3,stride=2) fc(2)", (1, 12, 12)).remarks
    (remark,) = (remark for remark in remarks if remark.code == "account.leftover")
    assert remark.where == "pool1"
    both = summarize("pool(3,stride=2) conv(4,3,pad=2) pool(3,stride=2) fc(2)", (1, 14, 14)).remarks
    (remark,) = (remark for remark in both if remark.code == "account.leftover")
    assert remark.where == "pool1 and pool2"
    assert "likewise (8−3)/2+1 = 3.5" in remark.measured
    assert remark.remedy.startswith("For pool1: ")


def test_padding_counts_as_no_input() -> None:
    # (224+6−7)/2+1 = 112.5, but what is dropped is padding.
    assert "leftover" not in remarks_of("conv(4,7,stride=2,pad=3) gap fc(2)", (1, 224, 224))


def test_skipped_positions_are_harmless_beside_a_branch_that_sees_them() -> None:
    remark = remarks_of("resnet18", (3, 64, 64))["skipped"]
    assert remark.severity == "note"
    assert remark.where == "layer2.0.downsample.0, layer3.0.downsample.0 and layer4.0.downsample.0"
    assert "no window reads 75 % of the positions" in remark.measured
    assert "layer2.0.conv1 has the same input and reads them" in remark.why


def test_skipped_positions_are_lost_where_nothing_else_sees_them() -> None:
    remark = remarks_of("conv(4,3) conv(4,1,stride=3) fc(2)", (1, 12, 12))["skipped"]
    assert remark.severity == "warning"
    assert remark.where == "conv2"
    assert "84 % of the positions" in remark.measured


@pytest.mark.parametrize(
    ("layer", "remedy"),
    [("conv(1,3,dilation=20)", "Dilation 15."), ("conv(1,15,2,dilation=2)", "Dilation 1 or stride 1.")],
)
def test_of_dilated_windows_that_skip_positions_the_dilation_is_told(layer: str, remedy: str) -> None:
    remark = remarks_of(f"{layer} fc(2)", (1, 45, 45))["skipped"]
    assert "and dilation" in remark.measured
    assert remark.remedy == remedy
    way = remedy.lower().rstrip(".").partition(" or ")[0].replace(" ", "=")
    mended = f"{layer.partition(',dilation')[0]},{way}) fc(2)"
    assert "skipped" not in remarks_of(mended, (1, 45, 45))


@pytest.mark.parametrize("text", ["conv(4,4,pad=same) gap fc(2)", "conv(4,2,pad=same) conv(4,3,pad=1) gap fc(2)"])
def test_an_even_kernel_that_keeps_the_size_shifts(text: str) -> None:
    remark = remarks_of(text, (1, 10, 10))["half-pixel"]
    assert remark.where == "conv1"
    assert "half-pixel" not in remarks_of(text.replace("same", "0"), (1, 10, 10))


def test_two_even_kernels_shift_by_a_pixel() -> None:
    assert ", 1 in total" in remarks_of("2*[conv(4,4,pad=same)] gap fc(2)", (1, 10, 10))["half-pixel"].measured


def test_kernels_on_a_single_position_have_idle_weights() -> None:
    text = "conv(4,3) pool(2) conv(8,3,pad=1) relu fc(2)"
    remark = remarks_of(text, (1, 4, 4))["single-position"]
    assert remark.where == "conv2"
    assert f"{4 * 8 * 8:,} in total" in remark.measured
    network = build_model(text, (1, 4, 4)).eval()
    x = torch.randn(2, 1, 4, 4)
    before = network(x)
    weight = dict(network.named_parameters())["conv2.weight"]
    with torch.no_grad():
        middle = weight[:, :, 1, 1].clone()
        weight.fill_(99.0)
        weight[:, :, 1, 1] = middle
    assert torch.equal(network(x), before)


def test_softmax_at_the_end() -> None:
    assert remarks_of("fc(3) softmax", (5,))["final-softmax"].where == "softmax1"
    assert "final-softmax" not in remarks_of("fc(3) softmax fc(2)", (5,))


def test_a_bias_before_batch_normalization_changes_nothing() -> None:
    text = "conv(4,3) bn relu conv(5,3,bias=false) bn relu conv(6,3) relu bn fc(2)"
    remark = remarks_of(text, (1, 9, 9))["bias-before-norm"]
    assert (remark.where, remark.measured[:9]) == ("conv1", "4 biases ")
    network = build_model(text, (1, 9, 9))
    x = torch.randn(8, 1, 9, 9)
    before = network(x)
    with torch.no_grad():
        dict(network.named_parameters())["conv1.bias"].add_(3.0)
    torch.testing.assert_close(network(x), before, rtol=1e-3, atol=1e-4)


class Unused(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.add_module(name, nn.Linear(4, 9))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


@pytest.mark.parametrize(("name", "severity"), [("head", "warning"), ("aux_head", "note")])
def test_modules_that_never_ran_are_named(name: str, severity: str) -> None:
    (remark,) = (r for r in summarize(Unused(name), (4,)).remarks if r.code == "account.never-executed")
    assert (remark.where, remark.severity) == (name, severity)
    assert "45 parameters" in remark.measured


def test_what_is_frozen_and_never_ran_is_noted() -> None:
    network = Unused("head")
    network.head.requires_grad_(False)
    (remark,) = (r for r in summarize(network, (4,)).remarks if r.code == "account.never-executed")
    assert remark.severity == "note"


def test_frozen_parameters_are_counted() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    network[0].requires_grad_(False)
    (remark,) = (r for r in summarize(network, (4,)).remarks if r.code == "account.frozen")
    assert (remark.where, remark.measured) == ("0", "15 of 23 parameters are frozen")


def test_what_was_not_counted_is_a_warning() -> None:
    ledger = made_ledger(made_row("a"), uncounted=("fft_rfft in a",))
    (remark,) = (r for r in teacher_remarks(ledger) if r.code == "account.uncounted")
    assert remark.severity == "warning"
    assert "fft_rfft in a" in remark.measured


def test_the_field_of_the_last_map_is_compared_with_the_input() -> None:
    small = remarks_of("conv(4,5) relu pool(2) conv(4,5) pool(2) fc(2)", (1, 28, 28))["small-field"]
    assert small.where == "pool2"
    assert "16×16 of 28×28" in small.measured
    assert "later layers" in small.why
    assert "averages" in remarks_of("conv(4,5) relu gap fc(2)", (1, 28, 28))["small-field"].why
    assert "Each output position" in remarks_of("conv(4,5,pad=2)", (1, 28, 28))["small-field"].why
    large = remarks_of("conv(4,5) relu conv(4,5,pad=2) fc(2)", (1, 8, 8))["large-field"]
    assert large.where == "from conv2 on"
    assert not {"small-field", "large-field"} & set(remarks_of("conv(4,5) relu fc(2)", (1, 5, 5)))
    assert not {"small-field", "large-field"} & set(remarks_of("mlp(8)", (1, 5, 5)))


def test_most_parameters_and_computation_are_where_the_shares_say() -> None:
    remarks = remarks_of("alexnet", (3, 224, 224))
    measured = remarks["most-parameters"].measured
    assert measured == "96 % in classifier.1 (62 %), classifier.4 (27 %) and classifier.6 (7 %)"
    # 256·4096 weights and 4096 biases behind global average pooling
    assert "1,052,672 of its 37,752,832" in remarks["most-parameters"].remedy
    assert remarks["most-computation"].measured.startswith("92 % in features.0 (10 %), features.3 (31 %)")
    assert remarks["low-intensity"].where == "classifier.1, classifier.4 and classifier.6"


def test_many_layers_are_named_by_their_modules_or_said_to_be_even() -> None:
    assert (
        "in layer2 (4 %), layer3 (18 %) and layer4 (72 %)"
        in remarks_of("resnet18", (3, 64, 64))["most-parameters"].measured
    )
    even = remarks_of("12*[conv(8,3,pad=1) relu] fc(2)", (8, 6, 6))["most-computation"].measured
    assert even == "spread over the network: 11 of 13 layers have 90 %, and the largest, conv1, 8 %"


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "alexnet", "lenet5", "mnist-cnn"])
def test_sound_networks_get_few_remarks_and_no_warning(name: str) -> None:
    remarks = summarize(name).remarks
    assert 2 <= len(remarks) <= 4
    assert {remark.severity for remark in remarks} == {"note"}
    assert len({remark.code for remark in remarks}) == len(remarks)


def test_warnings_come_first() -> None:
    severities = [
        r.severity for r in summarize("conv(4,3,stride=3) relu conv(4,1,stride=2) fc(9) softmax", (1, 21, 20)).remarks
    ]
    assert severities == sorted(severities, key=("warning", "note").index)
    assert len(set(severities)) == 2
