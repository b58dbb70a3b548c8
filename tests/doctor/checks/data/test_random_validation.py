"""`data.random-validation`: does validation show the same images each time?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from for_checks.asked import asked, stepped
from for_checks.pictures import Labeled
from striate.doctor.checks.data.random_validation import RANDOM_VALIDATION


def with_nan(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x == x.flatten()[0], torch.nan, x)


@pytest.mark.parametrize("whole", [lambda x: x, with_nan])
@pytest.mark.parametrize("augmented", [True, False])
def test_validation_that_is_augmented_as_training_is(augmented: bool, whole: Any) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    train = Labeled(lambda x: whole(x) + 0.1 * torch.randn_like(x))
    val = train if augmented else Labeled(whole)
    told = asked(RANDOM_VALIDATION, model, DataLoader(train, 32), val=DataLoader(val, 32))
    assert [f.code for f in told] == ["data.random-validation"] * augmented


class Pairs(Labeled):
    """Two images, and whether they are alike."""

    def __getitem__(self, number: int) -> Any:
        one, other = torch.randint(len(self), (2,)).tolist()
        (x, y), (x2, y2) = super().__getitem__(one), super().__getitem__(other)
        return x, x2, (y == y2).long()


class Compared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.judge = nn.Sequential(nn.Flatten(), nn.Linear(256, 8)), nn.Linear(8, 2)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.judge((self.embed(one) - self.embed(other)).abs())


def test_pairs_that_are_drawn_anew_are_worth_a_note() -> None:
    pairs = [DataLoader(Pairs(lambda x: x), 32) for _ in range(2)]
    (found,) = asked(
        RANDOM_VALIDATION,
        Compared(),
        pairs[0],
        val=pairs[1],
        loss=nn.CrossEntropyLoss(),
        step=lambda model, batch, optimizer, loss: stepped(loss(model(*batch[:2]), batch[2]), optimizer),
    )
    assert found.severity == "note"
