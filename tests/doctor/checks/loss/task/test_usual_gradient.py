"""The user's own loss with which the network learns nothing, though it learns with the gradient of a usual loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from for_checks.asked import digits, perceptron
from for_checks.steps import Own, own_loss
from striate.doctor.checks.loss.task.usual_gradient import teaches_nothing
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def one_hot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels, 10).float()


def by_hand(outputs: Tensor, labels: Tensor) -> Tensor:
    exponentials = (outputs - outputs.max(1, keepdim=True).values).exp()
    return -(one_hot(labels) * (exponentials / exponentials.sum(1, keepdim=True)).log()).sum(1).mean()


def in_thousandths(outputs: Tensor, labels: Tensor) -> Tensor:
    return by_hand(outputs, labels) / 3000


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("loss", [by_hand, in_thousandths])
def test_a_loss_by_hand_teaches_at_some_rate(loss: Own) -> None:
    setup = make_setup(perceptron(), digits(), None, step=own_loss(loss), optimizer=sgd)
    assert teaches_nothing(Evidence(setup, Clock(120.0))) is None
