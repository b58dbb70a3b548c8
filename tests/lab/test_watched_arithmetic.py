"""What is shown of one number of a network comes to that number, by the definition, for whatever layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate import reference
from striate.lab.watching.pass_recorder import run_pass
from striate.lab.watching.step import Step, softmax_step, steps_of
from striate.lab.watching.unit_arithmetic import explain_unit
from striate.lab.watching.unit_records import UnitArithmetic
from striate.layers.activations import ScaledTanh
from striate.layers.convolution import PartialConvolution
from striate.layers.pooling import Subsampling
from striate.models.build import build_model

FEW = settings(max_examples=60, deadline=None)


def steps(module: nn.Module, x: torch.Tensor) -> tuple[Step, ...]:
    return steps_of(run_pass(module, x)[0])


def corners_and_middle(maps: torch.Tensor) -> list[tuple[int, int, int]]:
    """The first, the last, and a place between."""
    c, h, w = maps.shape
    return [(0, 0, 0), (c - 1, h - 1, w - 1), (c // 2, h // 2, w // 3)]


def close(shown: float | None, value: float, scale: float = 1.0) -> bool:
    return shown is not None and math.isclose(shown, value, rel_tol=2e-4, abs_tol=2e-5 * max(1.0, scale))


def added(unit: UnitArithmetic) -> float:
    """What patches say that their products come to."""
    return sum(
        v * w
        for patch in unit.patches
        for values, weights in zip(patch.values, patch.weights or (), strict=True)
        for v, w in zip(values, weights, strict=True)
    )


@st.composite
def convolutions(draw: Any) -> tuple[nn.Module, torch.Tensor]:
    axes = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(axes))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    same = draw(st.booleans())
    layer = (nn.Conv1d, nn.Conv2d)[axes - 1](
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        kernel,
        stride=1 if same else tuple(draw(st.integers(1, 3)) for _ in range(axes)),
        padding="same" if same and mode != "zeros" else tuple(draw(st.integers(0, 2)) for _ in range(axes)),
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
    )
    sides = [draw(st.integers(7, 9)) for _ in range(axes)]
    return layer, torch.randn(1, layer.in_channels, *sides)


@FEW
@given(convolutions())
def test_the_terms_of_a_convolution_come_to_what_it_gives(case: tuple[nn.Module, torch.Tensor]) -> None:
    layer, x = case
    (step,) = steps(layer, x)
    wanted = reference.convolve(
        x,
        layer.weight.detach(),
        None if layer.bias is None else layer.bias.detach(),
        **{name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")},
    )
    for unit in corners_and_middle(step.maps):
        found = explain_unit(step, unit)
        by_definition = float(wanted.reshape(step.maps.shape)[unit])
        assert close(found.value, by_definition)
        assert close(found.output, by_definition)
        bias = 0.0 if layer.bias is None else float(layer.bias.detach()[unit[0]])
        assert close(added(found) + bias, by_definition)
        assert close(sum(value for _, value in found.channels) + bias, by_definition)
        _check_positions(found, x, layer.padding_mode)


def _check_positions(found: UnitArithmetic, x: torch.Tensor, mode: str) -> None:
    """Numbers that are on the map are those of the map there; padding with zeros is 0."""
    plane = x[0] if x.ndim == 4 else x[0].unsqueeze(1)
    for patch in found.patches:
        for row, values, outside in zip(patch.rows, patch.values, patch.outside, strict=True):
            for column, value, beyond in zip(patch.columns, values, outside, strict=True):
                there = 0 <= row < plane.shape[1] and 0 <= column < plane.shape[2]
                assert there is not beyond
                if there:
                    assert value == float(plane[patch.channel, row, column])
                elif mode == "zeros":
                    assert value == 0


@FEW
@given(st.data())
def test_the_terms_of_a_transposed_convolution_come_to_what_it_gives(data: Any) -> None:
    groups = data.draw(st.integers(1, 2))
    kernel, stride = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    layer = nn.ConvTranspose2d(
        2 * groups, 3 * groups, kernel, stride, data.draw(st.integers(0, kernel - 1)), groups=groups
    )
    (step,) = steps(layer, torch.randn(1, 2 * groups, 4, 5))
    for unit in corners_and_middle(step.maps):
        found = explain_unit(step, unit)
        assert close(found.value, float(step.maps[unit]))
        assert close(added(found) + float(layer.bias.detach()[unit[0]]), float(step.maps[unit]))


@FEW
@given(st.data())
def test_the_window_of_a_pooling_gives_its_number(data: Any) -> None:
    size, stride = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 3))
    padding, ceil = data.draw(st.integers(0, size // 2)), data.draw(st.booleans())
    layers: list[nn.Module] = [
        nn.MaxPool2d(size, stride, padding, ceil_mode=ceil),
        nn.AvgPool2d(size, stride, padding, ceil_mode=ceil, count_include_pad=data.draw(st.booleans())),
        nn.MaxPool1d(size, stride, padding, ceil_mode=ceil),
        nn.AvgPool1d(size, stride, padding, ceil_mode=ceil, count_include_pad=data.draw(st.booleans())),
        nn.AdaptiveMaxPool2d((data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))),
        nn.AdaptiveAvgPool2d((data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))),
    ]
    layer = data.draw(st.sampled_from(layers))
    one_axis = isinstance(layer, nn.MaxPool1d | nn.AvgPool1d)
    (step,) = steps(layer, torch.randn(1, 2, 9) if one_axis else torch.randn(1, 2, 9, 8))
    for unit in corners_and_middle(step.maps):
        found = explain_unit(step, unit)
        assert close(found.value, float(step.maps[unit])), (layer, unit)
        assert found.kind == "window"


def test_pooling_agrees_with_the_definition() -> None:
    x = torch.randn(1, 3, 8, 8)
    for word, wanted in (
        ("pool(3,2)", reference.max_pool(x, 3, 2)),
        ("avgpool(3,2,pad=1)", reference.average_pool(x, 3, 2, 1)),
        ("l2pool(2,pad=1)", reference.l2_pool(x, 2, None, 1)),
        ("chpool(2)", reference.channel_l2_pool(x, 2)),
        ("lrn", reference.local_response_norm(x)),
        ("maxout(3)", reference.maxout(x, 3)),
        ("gap", x.mean((2, 3)).numpy()),
    ):
        module = build_model(word, (3, 8, 8))
        step = steps(module, x)[-1]
        for unit in corners_and_middle(step.maps):
            found = explain_unit(step, unit)
            if word != "lrn":  # its defaults are those of the paper
                assert close(found.value, float(wanted.reshape(step.maps.shape)[unit])), word
            assert close(found.value, found.output), word


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.2), nn.PReLU(4), nn.ELU(0.7), nn.SELU()),
        *(nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.Hardswish(), nn.Hardsigmoid()),
        *(nn.Hardtanh(-0.5, 0.5), nn.Softplus(), nn.Mish(), nn.CELU(), nn.Dropout(), nn.Identity(), nn.Flatten()),
        *(nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False)),
        *(nn.GroupNorm(2, 4), nn.GroupNorm(1, 4), nn.LayerNorm([6, 7]), nn.LayerNorm(7), nn.InstanceNorm2d(4)),
        *(nn.Softmax(1), nn.Softmax2d(), nn.LogSoftmax(1), nn.LocalResponseNorm(3), nn.ZeroPad2d((1, 2, 0, 1))),
        *(nn.Upsample(scale_factor=2, mode="nearest"), nn.AdaptiveAvgPool2d(1), ScaledTanh(), Subsampling(4)),
        *(PartialConvolution(4, [[0, 2], [1, 2, 3]], 3), nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 3))),
    ],
    ids=str,
)
def test_every_layer_shows_its_number(layer: nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    for buffer in layer.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 2)
    # A convolution before it, so that it does not get the input itself.
    network = nn.Sequential(nn.Conv2d(4, 4, 1), layer)
    step = steps(network, torch.randn(1, 4, 6, 7))[-1]
    for unit in corners_and_middle(step.maps):
        found = explain_unit(step, unit)
        assert found.kind != "none"
        assert close(found.value, found.output), found
        assert found.output == float(step.maps[unit])


def test_a_layer_that_begins_with_fewer_numbers_is_shown_without_arithmetic() -> None:
    step = steps(build_model("lcn", (4, 2, 2)), torch.randn(1, 4, 2, 2))[-1]
    assert {explain_unit(step, unit).kind for unit in corners_and_middle(step.maps)} == {"none"}


@pytest.mark.parametrize(
    ("layer", "sides"),
    [
        *((nn.Upsample(scale_factor=factor), (6, 5)) for factor in (1.7, 2.19, 0.6, (1.4, 2.6))),
        *((nn.Upsample(scale_factor=factor), (7,)) for factor in (1.27, 1.7, 3.0)),
        *((nn.Upsample(size=(10, 13)), (6, 5)), (nn.Upsample(scale_factor=1.7, recompute_scale_factor=True), (6, 5))),
    ],
    ids=str,
)
def test_every_number_of_an_enlarged_map_comes_from_where_torch_takes_it(
    layer: nn.Module, sides: tuple[int, ...]
) -> None:
    before = nn.Conv1d(1, 2, 1) if len(sides) == 1 else nn.Conv2d(1, 2, 1)
    step = steps(nn.Sequential(before, layer), torch.randn(1, 1, *sides))[-1]
    for unit in np.ndindex(*step.maps.shape):
        found = explain_unit(step, (unit[0], unit[1], unit[2]))
        assert found.kind == "copy"
        assert found.value == found.output


def test_a_layer_that_works_in_place_leaves_what_came_before() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3), nn.ReLU(inplace=True))
    x = torch.randn(1, 1, 9, 9)
    found = steps(network, x)
    after = x
    for layer, step in zip(network, found, strict=True):
        after = nn.ReLU()(after) if isinstance(layer, nn.ReLU) else layer(after)
        assert torch.equal(step.output, after.detach())
    unit = explain_unit(found[1], (0, 3, 3))
    assert unit.terms[0].value == float(found[0].maps[0, 3, 3])


def test_residual_sums_and_joined_maps_name_what_goes_in() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.left(x), self.right(x)], 1)

    x = torch.randn(1, 2, 6, 6)
    found = steps(nn.Sequential(build_model("res[conv(2,3,pad=same) relu]", (2, 6, 6)), Joined()), x)
    by_kind = {step.kind: step for step in found}
    assert [step.kind for step in found] == ["conv", "relu", "add", "conv", "conv", "cat"]
    total = explain_unit(by_kind["add"], (1, 2, 3), found)
    named = {term.label: term.value for term in total.terms}
    assert named == {"0.res1.body.relu1": float(by_kind["relu"].maps[1, 2, 3]), "the input": float(x[0, 1, 2, 3])}
    assert close(total.value, total.output)
    part = explain_unit(by_kind["cat"], (4, 2, 3), found)
    assert part.words == "Map 1 of part 2 of 2 (1.right), as it is."
    assert close(part.value, part.output)


def test_a_fully_connected_layer_names_the_places_of_the_maps() -> None:
    network = build_model("conv(3,3) relu flatten fc(40) fc(5)", (1, 8, 8))
    found = steps(network, torch.randn(1, 1, 8, 8))
    first, last = [step for step in found if step.kind == "fc"]
    unit = explain_unit(first, (7, 0, 0), found)
    assert (len(unit.terms), unit.rest_count) == (100, 8)
    assert close(sum(term.adds for term in unit.terms) + unit.rest_sum, unit.lines[0].value)
    assert close(unit.value, unit.output)
    assert unit.terms[0].label.startswith("map ")
    assert explain_unit(last, (0, 0, 0), found).terms[0].label.startswith("number ")


def test_the_first_lenet_is_explained_to_its_last_layer() -> None:
    for step in steps(build_model("lenet5-1998", (1, 32, 32)), torch.randn(1, 1, 32, 32)):
        found = explain_unit(step, (0, 0, 0))
        assert close(found.value, found.output, 10), step.kind


def test_probabilities_are_explained_behind_the_last_layer() -> None:
    found = steps(build_model("conv(3,3) gap fc(4)", (1, 8, 8)), torch.randn(1, 1, 8, 8))
    step = softmax_step(found, ("a", "b", "c", "d"))
    unit = explain_unit(step, (2, 0, 0), (*found, step))
    assert unit.terms[0].label == "c"
    assert close(unit.value, unit.output)
    assert np.isclose(sum(float(step.maps[k]) for k in range(4)), 1)
