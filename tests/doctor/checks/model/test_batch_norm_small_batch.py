"""`model.batch-norm-small-batch`: does batch norm get enough samples to measure anything?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, quick_adam
from for_checks.networks import Middle
from striate.doctor.checks.model.batch_norm_small_batch import BATCH_NORM_SMALL_BATCH


def convolutions(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), norm, nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))


def few(batch: int, count: int = 60, drop: bool = True) -> DataLoader[Any]:
    x, y = next(iter(digits(count)))
    return DataLoader(TensorDataset(x, y), batch, shuffle=True, drop_last=drop)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "batch"),
    [(convolutions(nn.BatchNorm2d(8)), 1), (convolutions(nn.BatchNorm2d(8)), 2), (Middle(nn.BatchNorm1d(24)), 4)],
)
def test_batch_norm_with_too_few_samples(model: nn.Module, batch: int) -> None:
    (found,) = asked(BATCH_NORM_SMALL_BATCH, model, few(batch), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.batch-norm-small-batch", "warning")


@pytest.mark.parametrize("count", [33, 1])
def test_a_batch_of_one_that_raises(count: int) -> None:
    loader = few(32 if count > 1 else 1, 33, drop=False)
    (found,) = asked(BATCH_NORM_SMALL_BATCH, Middle(nn.BatchNorm1d(24)), loader, optimizer=quick_adam)
    assert found.severity == "error"
    assert ("drop_last=True" in found.remedy) == (count > 1)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "loader"),
    [
        (convolutions(nn.GroupNorm(2, 8)), few(2)),
        (convolutions(nn.BatchNorm2d(8)), few(32, 33, drop=False)),
        (convolutions(nn.BatchNorm2d(8)), few(8)),
        (Middle(nn.BatchNorm1d(24)), few(16)),
        (Middle(nn.LayerNorm(24)), few(1)),
    ],
)
def test_enough_samples(model: nn.Module, loader: Any) -> None:
    assert not asked(BATCH_NORM_SMALL_BATCH, model, loader, optimizer=quick_adam)
