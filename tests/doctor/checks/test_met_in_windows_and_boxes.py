"""Pairs of users and items that validation shares, attention along the samples, padded tags, boxes, first states."""

from __future__ import annotations

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.repeated_samples import LEAK


class Factors(nn.Module):
    """The product of a user's and an item's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, 4), nn.Embedding(50, 4)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(1)


def ratings_step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer, loss: nn.Module) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0], batch[1]), batch[2])
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.parametrize(("kind", "wrong"), [("apart", False), ("all", True), ("drawn", False)])
def test_pairs_of_validation_are_found_in_training(kind: str, wrong: bool) -> None:
    torch.manual_seed(0)
    pairs = torch.randperm(3000)[:1500]
    ratings = torch.randint(1, 6, (1500,)).float()
    if kind == "drawn":  # among pairs that come again anyway
        pairs, ratings = torch.randint(0, 3000, (1500,)) // 4 * 4, torch.full((1500,), 3.0)
        ratings[::5] = 1.0
    columns = pairs // 50, pairs % 50, ratings
    first = 0 if kind == "all" else 300
    train, val = (TensorDataset(*(c[rows] for c in columns)) for rows in (slice(first, None), slice(300)))
    options = {"val": DataLoader(val, 100), "loss": nn.MSELoss(), "step": ratings_step}
    found = asked(LEAK, Factors(), DataLoader(train, 50, shuffle=True), **options)
    assert [f.code for f in found] == ["data.leak"] * wrong
