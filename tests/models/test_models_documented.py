"""docs/models.md lists the zoo as the catalog has it, and what it says to write can be built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.account.summarize import count_macs, count_parameters
from striate.cli.models import comparable_error
from striate.models.build import build_model
from striate.models.registry import GROUPS, MODELS
from striate.wording import scaled

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
COLUMNS = ("name", "year", "parameters", "MACs", "input", "error, top-1 / top-5", "weight files of")


def table() -> str:
    """The table as it has to be: a row a network, a row with its title alone before each family."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for group, entries in GROUPS.items():
        lines.append(f"| **{group}** | | | | | | |")
        for info in sorted(entries, key=lambda info: info.year):
            error = comparable_error(info)
            rates = (
                [f"{round(rate, 2):g}" if rate is not None else "–" for rate in (error.top1, error.top5)]
                if error
                else []
            )
            cells = [
                f"`{info.name}`",
                str(info.year),
                f"{info.published_parameters:,}",
                scaled(info.published_macs),
                "×".join(map(str, info.input_shape)),
                " / ".join(rates),
                info.weights,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(line.replace("  ", " ") for line in lines) + "\n"


def test_the_table_of_the_page_is_the_catalog() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), f"docs/models.md has to contain:\n{table()}"


def without_batch_normalization(network: nn.Module) -> None:
    """The paper's GoogLeNet: 5×5 in the third branches, biases, no batch normalization."""
    for path, layer in list(network.named_modules()):
        parent, _, name = path.rpartition(".")
        if isinstance(layer, nn.BatchNorm2d):
            setattr(network.get_submodule(parent), name, nn.Identity())
        elif isinstance(layer, nn.Conv2d):
            kernel, padding = (5, 2) if "branch3.1" in path else (layer.kernel_size, layer.padding)
            paper = nn.Conv2d(layer.in_channels, layer.out_channels, kernel, layer.stride, padding)
            setattr(network.get_submodule(parent), name, paper)


def with_strides_first(network: nn.Module) -> None:
    """The paper's bottlenecks: the stride in the first 1×1 convolution."""
    for block in network.modules():
        if hasattr(block, "conv3"):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


@pytest.mark.parametrize(
    ("name", "change", "counts"),
    [
        ("googlenet", without_batch_normalization, (6_998_552, 1_582_671_872)),
        ("resnet50", with_strides_first, (25_557_032, 3_857_973_248)),
    ],
)
def test_what_the_forms_of_the_papers_cost(name: str, change, counts: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = build_model(name)
        change(network)
    found = count_parameters(network), count_macs(network, MODELS[name].input_shape)
    assert found == counts
    assert f"{found[1]:,}" in PAGE.read_text(encoding="utf-8")
    assert "As torchvision has it" in MODELS[name].description


WRITTEN = sorted(
    {name for name in re.findall(r"`([\w-]+\([^`)]*\))`", PAGE.read_text("utf-8")) if name.partition("(")[0] in MODELS}
)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", WRITTEN)
def test_what_the_page_says_to_write_can_be_built(name: str) -> None:
    with torch.device("meta"):
        network = build_model(name)
    assert sum(p.numel() for p in network.parameters()) > 0


def test_every_small_form_is_of_a_kind_that_the_page_explains() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## Small images")[2].partition("\n## ")[0]
    for info in MODELS.values():
        if info.small_form:
            assert re.search(r"\((\w+=\w+)\)", info.small_form).group(1) in text, info.small_form
