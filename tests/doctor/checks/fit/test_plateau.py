"""`fit.plateau`: does the loss stay where it was, though weights change?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from for_checks.asked import asked, digits, loop, perceptron
from striate.doctor.checks.fit.plateau import PLATEAU

LOSS = nn.CrossEntropyLoss()


def adam(model: nn.Module, lr: float = 5e-3, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr, **options)


def trained(model: nn.Module, loader: Any, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    for _ in range(epochs):
        for batch in loader:
            loop(model, batch, optimizer, LOSS)


@pytest.mark.slow
def test_steps_that_go_to_and_fro() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer, loader = adam(model, 0.1), digits(8)
    trained(model, loader, optimizer, 6)
    (found,) = asked(PLATEAU, model, loader, loss=LOSS, optimizer=optimizer)
    assert "with a tenth of the learning rate it is" in found.measured
    assert "CosineAnnealingLR" in found.remedy


def test_a_network_that_has_learned_all_is_on_no_plateau() -> None:
    model = perceptron()
    optimizer = adam(model)
    trained(model, digits(), optimizer, 6)
    assert not asked(PLATEAU, model, digits(), loss=LOSS, optimizer=optimizer)


def test_a_loss_that_falls_is_on_no_plateau() -> None:
    model = perceptron()
    assert not asked(PLATEAU, model, digits(), loss=LOSS, optimizer=adam(model))
