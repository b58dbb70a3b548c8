"""docs/models.md lists the zoo as the catalog has it, and what it says to write can be built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

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
