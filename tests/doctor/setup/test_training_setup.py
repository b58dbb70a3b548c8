"""The arguments of a diagnosis, checked and completed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize("asked_for", [True, False])
def test_numbers_that_no_loss_asks_for_are_no_targets(asked_for: bool) -> None:
    torch.manual_seed(0)
    past, future, district = torch.randn(96, 6), torch.randn(96, 2), torch.randint(0, 4, (96,))
    model = nn.Linear(6, 2)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        apart = (batch[1] - net(batch[0])).abs().mean(1)
        value = (apart * (1 + batch[2]) if asked_for else apart).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    data = DataLoader(TensorDataset(past, future, district), 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    evidence = Evidence(make_setup(model, data, None, optimizer=optimizer, step=step), Clock(120.0))
    y = evidence.samples.y
    assert y is not None
    assert torch.equal(y, district if asked_for else future)
