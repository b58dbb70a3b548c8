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

from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.pairs.pairs_swapped import _classes_brought_together
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


def shifted(x: Tensor) -> Tensor:
    """A view, all images of which are shifted as far, so that those of one view are alike in that."""
    dy, dx = torch.randint(-2, 3, (2,)).tolist()
    return x.roll((dy, dx), (-2, -1)) + 0.2 * torch.randn_like(x)


def in_views(swapped: bool) -> Any:
    """A step that pulls together views of samples of one class, or, `swapped`, of two."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        z, labels = model(torch.cat([shifted(x), shifted(x)])), torch.cat([y, y])
        i, j = torch.triu_indices(len(z), len(z), 1)
        apart = (z[i] - z[j]).square().sum(1)
        same = (labels[i] == labels[j]) ^ swapped
        push = functional.relu(1 - (apart + 1e-6).sqrt()).square()
        return stepped(model, apart[same].mean() + push[~same].mean(), optimizer)

    return step


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [True, False])
def test_pairs_of_shifted_views(swapped: bool) -> None:
    torch.manual_seed(0)
    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked_or_silent(PAIRS_SWAPPED, model, digits(), step=in_views(swapped), optimizer=optimizer)
    assert [one.code for one in said] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("swapped", [True, False])
def test_what_is_pushed_may_look_alike_where_classes_are_brought_together(swapped: bool) -> None:
    torch.manual_seed(0)
    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    setup = make_setup(model, digits(), None, step=in_views(swapped), optimizer=optimizer)
    assert _classes_brought_together(Evidence(setup, Clock(20.0))) == (not swapped)
