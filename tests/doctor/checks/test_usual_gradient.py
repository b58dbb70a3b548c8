"""Losses of one's own that teach nothing, beside such that do; targets that a batch has twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.loss.task.usual_gradient import teaches_nothing
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup

Own = Callable[[Tensor, Tensor], Tensor]


def stepping(loss: Own) -> Any:
    """A step with a loss written in it."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def one_hot(labels: Tensor) -> Tensor:
    return functional.one_hot(labels, 10).float()


def of_raw_outputs(outputs: Tensor, labels: Tensor) -> Tensor:
    return -(one_hot(labels) * outputs.clamp(1e-32, 1 - 1e-7).log()).sum(1).mean()


def by_hand(outputs: Tensor, labels: Tensor) -> Tensor:
    exponentials = (outputs - outputs.max(1, keepdim=True).values).exp()
    return -(one_hot(labels) * (exponentials / exponentials.sum(1, keepdim=True)).log()).sum(1).mean()


def in_thousandths(outputs: Tensor, labels: Tensor) -> Tensor:
    return by_hand(outputs, labels) / 3000


def test_logarithms_of_raw_outputs_teach_nothing() -> None:
    (found,) = asked(WRONG_FOR_TASK, perceptron(), digits(), step=stepping(of_raw_outputs), optimizer=sgd)
    assert (found.code, found.severity) == ("loss.wrong-for-task", "error")
    assert "with the gradient of `nn.CrossEntropyLoss()` by the outputs" in found.measured
    assert "nn.CrossEntropyLoss()" in found.remedy


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("loss", [by_hand, in_thousandths])
def test_a_loss_by_hand_teaches_at_some_rate(loss: Own) -> None:
    setup = make_setup(perceptron(), digits(), None, step=stepping(loss), optimizer=sgd)
    assert teaches_nothing(Evidence(setup, Clock(120.0))) is None


def test_of_labels_by_chance_no_loss_is_at_fault() -> None:
    x = torch.randn(320, 64, generator=torch.Generator().manual_seed(0))
    y = torch.randint(10, (320,), generator=torch.Generator().manual_seed(1))
    data = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    assert not asked(WRONG_FOR_TASK, model, data, step=stepping(of_raw_outputs), optimizer=sgd)


def quantities(mean: float = 0.0, deviation: float = 1.0) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(640, 8, generator=generator)
    y = (x[:, :1] - 2 * x[:, 1:2]) / 5**0.5 + 0.05 * torch.randn(640, 1, generator=generator)
    y = mean + deviation * y
    return TensorDataset(x, y, y.clone())


def test_a_loss_that_forgets_the_sign_of_quantities_teaches_nothing() -> None:
    torch.manual_seed(0)
    pairs = TensorDataset(*quantities().tensors[:2])
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

    def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.abs() - targets.abs()).square().mean()

    found = asked(WRONG_FOR_TASK, model, DataLoader(pairs, 32, shuffle=True), step=stepping(wrong), optimizer=sgd)
    (text,) = (finding.measured for finding in found)
    assert "`nn.MSELoss()`" in text
    assert "of the targets' variance" in text


def test_targets_that_a_batch_has_twice_are_too_far_all_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    data = DataLoader(quantities(2000.0, 300.0), 32, shuffle=True)
    (found,) = asked(TARGET_SCALE, model, data, step=step, optimizer=lambda p: torch.optim.SGD(p, lr=0.02))
    assert found.code == "data.target-scale"
