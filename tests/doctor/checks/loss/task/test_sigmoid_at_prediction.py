"""`loss.wrong-for-task` of outputs whose sigmoid the script takes, though the loss did not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import loop, quick_adam, read
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK

SQUASHED = """
def predict(network, x):
    with torch.no_grad():
        y = network(x)
    return y.sigmoid()
for x, y in loader:
    pass
predict(network, x)
"""


def by_outputs(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(outputs.squeeze(1), y)


def by_sigmoid(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(outputs.squeeze(1).sigmoid(), y)


@pytest.mark.parametrize(
    ("text", "loss", "lowest", "wrong"),
    [
        (SQUASHED, by_outputs, 0.0, True),
        (SQUASHED, by_sigmoid, 0.0, False),
        (SQUASHED.replace(".sigmoid()", ""), by_outputs, 0.0, False),
        (SQUASHED, by_outputs, -1.0, False),
        (SQUASHED.replace("def predict", "def forward"), by_outputs, 0.0, False),
        (SQUASHED + "\nloss = nn.BCEWithLogitsLoss()", by_outputs, 0.0, False),
    ],
    ids=["wrong", "in the loss too", "nowhere", "other targets", "in a network", "of another training"],
)
def test_the_sigmoid_of_predictions_is_in_the_loss(text: str, loss: Any, lowest: float, wrong: bool) -> None:
    torch.manual_seed(0)
    x = torch.rand(256, 8)
    y = lowest + (1 - lowest) * (x[:, :4].mean(1) - 0.2).clamp(0, 0.6) / 0.6
    network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    found = read(
        text,
        WRONG_FOR_TASK,
        network,
        DataLoader(TensorDataset(x, y), 32, shuffle=True),
        names={"network": network},
        optimizer=quick_adam,
        step=lambda model, batch, optimizer, _: loop(model, batch, optimizer, loss),
    )
    assert ["y.sigmoid()" in finding.measured for finding in found] == [True] * wrong
