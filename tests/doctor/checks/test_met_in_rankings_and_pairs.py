"""Rankings of what users chose above what was drawn, and of pairs; and their twins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003)


class Factors(nn.Module):
    """Scores of users with items; of two items each, where it is given two, or how far apart they are."""

    def __init__(self, distances: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items, self.distances = nn.Embedding(100, 8), nn.Embedding(60, 8), distances

    def forward(self, users: Tensor, *items: Tensor) -> Any:
        if self.distances:
            scores = [(self.users(users) - self.items(some)).norm(dim=1) for some in items]
        else:
            scores = [(self.users(users) * self.items(some)).sum(1) for some in items]
        return scores[0] if len(items) == 1 else tuple(scores)


def chosen() -> DataLoader[Any]:
    """Of each of 100 users eight items that it chose, of one kind of four, each beside one drawn from all."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (100,), generator=generator)
    ranks = torch.rand(100, 15, generator=generator).argsort(1)[:, :8]
    positive = (kinds[:, None] * 15 + ranks).flatten()
    negative = torch.randint(60, positive.shape, generator=generator)
    users = torch.arange(100).repeat_interleave(8)
    return DataLoader(TensorDataset(users, positive, negative), 32, shuffle=True, generator=generator)


@pytest.mark.parametrize(
    ("turned", "together", "distances"),
    [(True, False, False), (False, False, False), (True, True, False), (False, True, False), (True, False, True)],
)
def test_what_was_chosen_is_ranked_above_what_was_drawn(turned: bool, together: bool, distances: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        users, *items = batch
        better, worse = model(users, *items) if together else (model(users, some) for some in items)
        value = -functional.logsigmoid(worse - better if turned else better - worse).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, Factors(distances), chosen(), step=step, optimizer=adam)
    assert ["as of items drawn at random" in one.measured for one in found] == [True] * (turned and not distances)
