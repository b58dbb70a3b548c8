"""Receptive fields of networks: published ones, where the gradient is, and of single layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate import summarize
from striate.account.field.effective import effective_receptive_field
from striate.account.observing import observation
from striate.account.summarize import observe
from striate.errors import ModelError
from striate.models.build import build_model


def vgg16_features() -> nn.Module:
    """Thirteen 3×3 convolutions in five groups (Simonyan and Zisserman, 2015), thin."""
    layers: list[nn.Module] = []
    channels = 3
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            layers += [nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(inplace=True)]
            channels = 4
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def test_published_receptive_fields() -> None:
    # Araujo et al., Distill 2019
    vgg = observe(vgg16_features(), (3, 224, 224))
    assert (vgg.receptive_field, vgg.jump) == ((212, 212), (32, 32))
    alexnet = nn.Sequential(
        *(nn.Conv2d(3, 2, 11, 4, 2), nn.MaxPool2d(3, 2), nn.Conv2d(2, 2, 5, padding=2), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)),
        nn.MaxPool2d(3, 2),
    )
    ledger = observe(alexnet, (3, 224, 224))
    assert (ledger.receptive_field, ledger.jump) == ((195, 195), (32, 32))


def bottlenecks(strides_last: bool) -> nn.Module:
    """The 3×3 convolutions of ResNet-50 with the stride in the first unit of a stage, or in the last."""
    layers: list[nn.Module] = [nn.Conv2d(1, 1, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    for stage, units in enumerate((3, 4, 6, 3)):
        for unit in range(units):
            strided = (unit == units - 1 and stage < 3) if strides_last else (unit == 0 and stage > 0)
            layers.append(nn.Conv2d(1, 1, 3, 2 if strided else 1, 1))
    return nn.Sequential(*layers)


def test_where_the_stride_is_decides_the_field_of_a_residual_network() -> None:
    # 483 is published for the form with the stride in the last unit of each stage; torchvision's has it in the first.
    assert observe(bottlenecks(True), (1, 224, 224)).receptive_field == (483, 483)
    assert observe(bottlenecks(False), (1, 224, 224)).receptive_field == (427, 427)


CHAIN = st.lists(
    st.sampled_from(
        [
            "conv(2,3)",
            "conv(2,3,pad=1)",
            "conv(2,2,2)",
            "conv(2,3,pad=2,dilation=2)",
            "conv(4,1,2)",
            "avgpool(2)",
            "avgpool(3,2,1)",
            "local(2,3)",
            "up(2)",
            "res[conv(2,3,pad=1)]",
            "res[conv(3,3,2,pad=1)]",
            "bn",
            "gap fc(3)",
            "fc(3)",
        ]
    ),
    min_size=1,
    max_size=5,
)


def seen_by_gradient(network: nn.Module, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last input position along each axis that the middle output depends on: all weights are positive."""
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point():
            value.data = torch.ones_like(value)
    # Two samples: of one whose batch axis has an odd stride, torch 2.13 gives wrong gradients in batch normalization.
    x = torch.rand(2, *shape, dtype=torch.float64).add_(1).requires_grad_(True)
    out = network.double().eval()(x)
    middle = out[(0, slice(None), *(side // 2 for side in out.shape[2:]))].sum()
    (gradient,) = torch.autograd.grad(middle, x)
    support = gradient[0].sum(0) != 0
    spans = []
    for axis in range(support.ndim):
        along = support.movedim(axis, 0).flatten(1).any(1) if support.ndim > 1 else support
        along = along.nonzero().flatten()
        spans.append((int(along[0]), int(along[-1])))
    return spans


@pytest.mark.slow
@settings(max_examples=60)
@given(CHAIN, st.sampled_from([(1, 41), (2, 27, 30), (1, 13, 14, 15)]))
def test_fields_are_where_the_gradient_is(words: list[str], shape: tuple[int, ...]) -> None:
    try:
        network = build_model(" ".join(words), shape)
    except ModelError:
        return
    last = observation.observe_network(network, shape).observer.entries.done[-1]
    spans = seen_by_gradient(network, shape)
    out = (1, *last.out_shape)
    for axis, (seen, (first, end)) in enumerate(zip(last.fields, spans, strict=True)):
        middle = (0, slice(None), *(side // 2 for side in out[2:]))
        low = int(np.broadcast_to(seen.lo, out)[middle].min())
        high = int(np.broadcast_to(seen.hi, out)[middle].max())
        assert high - low + 1 <= observe(network, shape).rows[-1].receptive_field[axis]
        if low >= 0 and high < shape[1 + axis]:
            assert (first, end) == (low, high)
        else:  # beyond the border there is nothing, and windows that would begin there do not exist
            assert low <= first <= end <= high


class Branches(nn.Module):
    """Three branches that are concatenated, the last of them the one that sees least."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.wide, self.high = nn.Conv2d(1, 2, (1, 7), padding=(0, 3)), nn.Conv2d(1, 2, (5, 1), padding=(2, 0))
        self.point, self.end = nn.Conv2d(1, 2, 1), end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([self.wide(x), self.high(x), self.point(x)], 1)
        if self.end == "map":
            return y
        return y.mean((2, 3)) if self.end == "mean" else nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)


@pytest.mark.parametrize("end", ["map", "mean", "pooling"])
def test_branches_that_are_concatenated_see_together_what_any_of_them_sees(end: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, 2), Branches(end))
    ledger = summarize(network, (1, 41, 41))
    spans = seen_by_gradient(nn.Sequential(network[0], Branches("map")), (1, 41, 41))
    assert (ledger.receptive_field, ledger.jump) == (tuple(last - first + 1 for first, last in spans), (2, 2))
    assert ledger.receptive_field == (11, 15)
    (remark,) = (found for found in ledger.remarks if found.code == "account.small-field")
    assert "a unit of the last map sees 11×15 of 41×41" in remark.measured
    assert "branches" not in remark.where


def test_the_last_map_of_inception_v3_is_the_concatenation() -> None:
    # branch_pool, the last of the branches, sees 1247×1247; the 3×3 branch split into 1×3 and 3×1 sees most.
    assert observe("inception_v3", (3, 299, 299)).receptive_field == (1311, 1311)


def test_the_effective_field_is_measured_where_branches_are_joined() -> None:
    network = nn.Sequential(Branches("map"), nn.AdaptiveAvgPool2d(1))
    assert effective_receptive_field(network, (1, 21, 21), samples=1).layer == "0"


def transposed(*layers: tuple[int, int, int, int]) -> nn.Sequential:
    """Kernel, stride, padding and dilation of each layer."""
    return nn.Sequential(*(nn.ConvTranspose1d(1, 1, k, s, p, dilation=d) for k, s, p, d in layers))


@pytest.mark.parametrize(
    ("layer", "shape", "field", "jump"),
    [
        (nn.Conv2d(1, 1, 3, dilation=2), (1, 9, 9), (5, 5), (1, 1)),
        (nn.Conv2d(1, 1, (1, 4), (1, 3)), (1, 9, 10), (1, 4), (1, 3)),
        (nn.AdaptiveAvgPool2d(1), (1, 6, 7), (6, 7), (0, 0)),
        (nn.AdaptiveAvgPool1d(2), (1, 6), (3,), (3,)),
        (nn.Upsample(scale_factor=2), (1, 4, 4), (1, 1), (0.5, 0.5)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 4, 4), (2, 2), (0.5, 0.5)),
        (nn.ConvTranspose1d(1, 1, 4, 2, 1), (1, 5), (2,), (0.5,)),
        # Of two upsamplings the parity of positions counts, also beyond the ends of the map between them.
        (transposed((4, 2, 1, 1), (4, 1, 2, 2)), (1, 61), (5,), (0.5,)),
        (nn.Sequential(nn.Conv1d(1, 1, 3, 2, 1), transposed((4, 2, 1, 1), (3, 2, 1, 2))), (1, 61), (7,), (0.5,)),
        (nn.PixelShuffle(2), (4, 3, 3), (1, 1), (0.5, 0.5)),
        (nn.PixelUnshuffle(2), (1, 4, 4), (2, 2), (2, 2)),
        (nn.LocalResponseNorm(3), (4, 5, 5), (1, 1), (1, 1)),
        (nn.InstanceNorm2d(2), (2, 5, 6), (5, 6), (1, 1)),
        (nn.Flatten(), (2, 5, 6), (1, 1), (0, 0)),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (1, 3, 4), (3, 4), (0, 0)),
        (nn.Sequential(nn.ZeroPad2d(2), nn.Conv2d(1, 1, 5)), (1, 6, 6), (5, 5), (1, 1)),
    ],
)
def test_fields_of(layer: nn.Module, shape: tuple[int, ...], field: tuple[int, ...], jump: tuple[float, ...]) -> None:
    row = observe(layer, shape).rows[-1]
    assert (row.receptive_field, row.jump) == (field, jump)


def test_neither_padding_nor_its_kind_moves_the_first_unit() -> None:
    for mode in ("zeros", "reflect", "replicate", "circular"):
        row = observe(nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode), (1, 6, 6)).rows[0]
        assert (row.receptive_field, row.center, row.leftover) == ((3, 3), (0, 0), (0, 0)), mode


class GatedMaps(nn.Module):
    """A residual block with a gate by the mean of each map (squeeze and excitation), then two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.gate, self.conv2 = (
            nn.Conv2d(1, 2, 3, padding=1),
            nn.Conv2d(2, 2, 1),
            nn.Conv2d(2, 2, 3, padding=1),
        )
        self.conv3 = nn.Conv2d(2, 1, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        x = x + x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return self.conv3(self.conv2(x))


def test_after_a_gate_every_layer_sees_the_whole_map() -> None:
    rows = {row.name: row for row in observe(GatedMaps(), (1, 8, 8)).rows}
    assert [rows[name].sees_all for name in ("conv1", "conv2", "conv3")] == [False, True, True]
    # The two outermost positions of the map see one pixel of padding each.
    assert rows["conv2"].receptive_field == rows["conv3"].receptive_field == (10, 10)
