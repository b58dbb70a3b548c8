"""Likelihoods that are minimized, and their twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.loss.sign import SIGN


def hazards(outputs: Tensor, bins: Tensor, events: Tensor) -> Tensor:
    """The mean log-likelihood of a logistic hazard."""
    died, passed = functional.logsigmoid(outputs), functional.logsigmoid(-outputs)
    earlier = (torch.arange(outputs.shape[1]) < bins[:, None]).float()
    last = torch.where(events == 1, died.gather(1, bins[:, None])[:, 0], passed.gather(1, bins[:, None])[:, 0])
    return ((passed * earlier).sum(1) + last).mean()


def returns(outputs: Tensor, actions: Tensor, gains: Tensor) -> Tensor:
    return -(outputs.log_softmax(1).gather(1, actions[:, None])[:, 0] * gains).mean()


@pytest.mark.parametrize(
    ("loss", "beside", "wrong"),
    [
        (hazards, (0.0, 1.0), True),
        (lambda *given: -hazards(*given), (0.0, 1.0), False),
        (returns, (-2.0, -1.0), False),
        (returns, (-1.0, 1.0), False),
    ],
)
def test_a_likelihood_is_made_large(loss: Any, beside: tuple[float, float], wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, bins = torch.randn(256, 5, generator=generator), torch.randint(6, (256,), generator=generator)
    numbers = torch.tensor(beside)[torch.randint(2, (256,), generator=generator)]

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, bins, numbers = batch
        optimizer.zero_grad()
        value: Tensor = loss(model(x), bins, numbers)
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 6))
    options = {"loss": functional.mse_loss, "optimizer": torch.optim.SGD(model.parameters(), 0.05), "step": step}
    found = asked(SIGN, model, DataLoader(TensorDataset(x, bins, numbers), 64), **options)
    assert ["in each of 8 directions" in one.measured for one in found] == [True] * wrong
