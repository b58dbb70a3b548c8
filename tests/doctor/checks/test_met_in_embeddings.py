"""Embeddings of views that a step makes itself: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import digits
from test_met_in_galleries import Embedding
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor
from torch.nn import functional

from striate.doctor.checks.loss.pairs_swapped import CHECK as PAIRS_SWAPPED


def shifted(x: Tensor) -> Tensor:
    """A view, all images of which are shifted as far, so that those of one view are alike in that."""
    dy, dx = torch.randint(-2, 3, (2,)).tolist()
    return x.roll((dy, dx), (-2, -1)) + 0.2 * torch.randn_like(x)


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [True, False])
def test_pairs_of_shifted_views(swapped: bool) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        z, labels = model(torch.cat([shifted(x), shifted(x)])), torch.cat([y, y])
        i, j = torch.triu_indices(len(z), len(z), 1)
        apart = (z[i] - z[j]).square().sum(1)
        same = (labels[i] == labels[j]) ^ swapped
        push = functional.relu(1 - (apart + 1e-6).sqrt()).square()
        return stepped(model, apart[same].mean() + push[~same].mean(), optimizer)

    torch.manual_seed(0)
    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked_or_silent(PAIRS_SWAPPED, model, digits(), step=step, optimizer=optimizer)
    assert [one.code for one in said] == ["loss.pairs-swapped"] * swapped
