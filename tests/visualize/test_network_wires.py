"""Lines of the diagram: from each output to whatever takes it, past other boxes without running over each other."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from striate import summarize
from striate.visualize.network_boxes import network_boxes
from striate.visualize.network_diagram import find_bypasses, network_diagram

SVG = "{http://www.w3.org/2000/svg}"


def named_inputs(name: str) -> dict[str, set[str]]:
    boxes = network_boxes(summarize(name))
    return {box.name: {boxes[k].name if k >= 0 else "input" for k in box.inputs} for box in boxes}


def test_a_sum_is_taken_by_the_relu_behind_it() -> None:
    boxes = {box.name: box for box in network_boxes(summarize("resnet18"))}
    inputs = named_inputs("resnet18")
    assert boxes["layer2.0.downsample.0"].text == "conv 1×1 /2 · bn"
    assert inputs["conv1"] == {"input"}
    assert inputs["layer2.0.downsample.0"] == {"layer1.1.relu2"}
    assert inputs["layer2.0.relu2"] == {"layer2.0.conv2", "layer2.0.downsample.0"}
    assert inputs["layer2.1.relu2"] == {"layer2.0.relu2", "layer2.1.conv2"}


@pytest.mark.slow
def test_skips_of_a_unet_and_dense_blocks() -> None:
    assert named_inputs("small-unet")["decoder1.conv1"] == {"encoder1.conv2", "up1"}
    assert named_inputs("densenet121")["features.transition1"] == {"features.pool0", "features.denseblock1"}


@pytest.mark.slow
def test_every_input_has_its_line_and_nothing_else_has_one() -> None:
    for name in ("resnet18", "small-unet", "lenet5"):
        svg = ElementTree.fromstring(network_diagram(summarize(name)))
        boxes = network_boxes(summarize(name))
        straight = sum(place - 1 in box.inputs for place, box in enumerate(boxes))
        past = sum(len(box.inputs) for box in boxes) - straight
        assert len(list(svg.iter(f"{SVG}line"))) == straight
        assert len(list(svg.iter(f"{SVG}polygon"))) == past
        assert len(list(svg.iter(f"{SVG}path"))) == len(find_bypasses([box.inputs for box in boxes]))


class Twice(nn.Module):
    """The input is taken again at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(2, 2, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(self.conv2(self.conv1(x)) + x)


def test_an_input_that_is_taken_again_comes_from_above_the_first_box() -> None:
    svg = ElementTree.fromstring(network_diagram(summarize(Twice(), (2, 4, 4))))
    (path,) = svg.iter(f"{SVG}path")
    start, end = (float(re.search(pattern, path.get("d")).group(1)) for pattern in (r"^M \S+ (\S+)", r"V (\S+)"))
    tops = sorted(float(r.get("y")) for r in svg.iter(f"{SVG}rect") if r.get("class") == "map")
    assert start < tops[0] < tops[1] < tops[2] < end


def test_what_runs_before_its_module_is_called_again_is_no_loop() -> None:
    shared = nn.Linear(4, 4)
    boxes = network_boxes(summarize(nn.Sequential(shared, nn.Sigmoid(), shared), (4,)), most=1)
    assert all(place not in box.inputs for place, box in enumerate(boxes))


inputs_of_boxes = st.integers(1, 12).flatmap(
    lambda count: st.tuples(*(st.sets(st.integers(-1, count - 1).filter(lambda s, k=k: s != k)) for k in range(count)))
)


@pytest.mark.slow
@given(inputs_of_boxes)
def test_lanes_hold_one_output_at_a_time(drawn: tuple[set[int], ...]) -> None:
    inputs = [tuple(sorted(taken)) for taken in drawn]
    bypasses = find_bypasses(inputs)
    assert {(b.source, target) for b in bypasses for target in b.targets} == {
        (source, place) for place, taken in enumerate(inputs) for source in taken if source != place - 1
    }
    for one, other in combinations(bypasses, 2):
        if one.lane == other.lane:
            assert one.span[1] <= other.span[0] or other.span[1] <= one.span[0]


class BeforeNormalization(nn.Module):
    """The sum is taken before it is normalized: the normalization is no part of the layer whose output goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn, self.relu, self.conv2 = (
            nn.Conv2d(2, 2, 1),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.Conv2d(2, 2, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return torch.relu(y + self.conv2(self.relu(self.bn(y))))


def test_an_output_that_is_taken_elsewhere_too_ends_its_box() -> None:
    boxes = network_boxes(summarize(BeforeNormalization(), (2, 4, 4)))
    assert [(box.text, box.inputs) for box in boxes] == [
        *(("conv 1×1", (-1,)), ("bn · relu", (0,)), ("conv 1×1", (1,)), ("relu", (0, 2))),
    ]
