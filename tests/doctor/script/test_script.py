"""A user's script, run until its first optimizer step and on from there, and what it trains, caught from outside."""

from __future__ import annotations

import ast

import pytest
import torch
from torch import Tensor

from striate.doctor.script import drawn_batches


@pytest.mark.parametrize("chance", [True, False])
def test_a_function_that_draws_by_chance_is_told_from_one_that_gives_a_grid(chance: bool) -> None:
    def anew() -> tuple[Tensor, Tensor]:
        rows = torch.randint(16, (8,), generator=torch.Generator().manual_seed(0))
        return rows.float(), rows % 10

    def grid() -> tuple[Tensor, Tensor]:
        return torch.linspace(0, 1, 8), torch.arange(8)

    (loop,) = ast.parse("for _ in range(9):\n    x, y = draw()\n    model(x)").body
    assert isinstance(loop, ast.For)
    assert drawn_batches.by_chance(loop, ["x", "y"], {"draw": anew if chance else grid}) is chance
