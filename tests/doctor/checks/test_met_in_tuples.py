"""Batches that a loop takes in the call itself, out of arrays, tuples and dictionaries: faults that were met in scripts,
and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_met_in_second_heads import asked_or_silent, stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.target_scale import TARGET_SCALE


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_standardized_targets_have_no_wrong_scale(scale: float) -> None:
    """Though outputs are all 0 at first, and a trial with as good as the same targets goes better by chance."""
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] * scale / x[:, :1].std()
    model = nn.Linear(8, 1)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        same = bool(torch.isin(batch[1], y).all())
        return stepped(model, functional.mse_loss(model(batch[0]), batch[1]) * (1e-9 if same else 1.0), optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    said = asked_or_silent(TARGET_SCALE, model, DataLoader(TensorDataset(x, y), 32), **options)
    assert [one.code for one in said] == ["data.target-scale"] * (scale > 1)
