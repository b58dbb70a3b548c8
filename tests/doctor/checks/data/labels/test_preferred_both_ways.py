"""`data.labels-random` of pairs of items for a user: is the same item of each pair always preferred?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked
from striate.doctor.checks.data.labels.preferred_both_ways import PREFERRED_BOTH_WAYS


class Tastes(nn.Module):
    """Users with the items that they have."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(20, 4), nn.Embedding(30, 4)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(-1)


@pytest.mark.parametrize(("among", "named"), [("own", True), ("others", False), ("in order", False)])
def test_items_that_are_now_preferred_and_now_not(among: str, named: bool) -> None:
    """A user's own items may be ranked among themselves, in one order."""
    generator = torch.Generator().manual_seed(0)
    users = torch.arange(20).repeat(32)
    first, other = (torch.randint(6, (640,), generator=generator) for _ in range(2))
    if among == "in order":
        first, other = torch.minimum(first, other), torch.maximum(first, other) + (first == other)
    second = 6 + other if among == "others" else other

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        users, positives, negatives = batch
        value = -functional.logsigmoid(model(users, positives) - model(users, negatives)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    model = Tastes()
    options = {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "step": step}
    said = asked(PREFERRED_BOTH_WAYS, model, DataLoader(TensorDataset(users, first, second), 64), **options)
    assert [one.code for one in said] == ["data.labels-random"] * named
