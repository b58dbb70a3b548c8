"""`optim.weight-decay-too-high`: does weight decay shrink the weights faster than they can learn?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, perceptron, rows_in_batches, said, sgd, stepped
from for_checks.claims import Column, Scores
from striate.doctor.checks.model.last_layer_clipped import _argument_of
from striate.doctor.checks.optim.weight_decay_too_high import (
    WEIGHT_DECAY_TOO_HIGH,
    _pulled,
    decay_of_optimizer,
    exchanged_with_momentum,
)
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("momentum", "decay", "named"), [(1e-4, 0.9, True), (0.9, 1e-4, False), (0.0, 0.9, False)])
def test_momentum_and_decay_are_exchanged(momentum: float, decay: float, named: bool) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), 0.01, momentum=momentum, weight_decay=decay)
    assert [one.code for one in exchanged_with_momentum(optimizer)] == ["optim.weight-decay-too-high"] * named


LOSS = nn.CrossEntropyLoss()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("kind", "decay", "high"),
    [(torch.optim.Adam, 0.1, True), (torch.optim.Adam, 1e-4, False), (torch.optim.AdamW, 0.1, False)],
)
def test_the_decay_of_adamw_is_too_high_for_adam(kind: Any, decay: float, high: bool) -> None:
    model = perceptron()
    optimizer = kind(model.parameters(), lr=1e-3, weight_decay=decay)
    findings = said(WEIGHT_DECAY_TOO_HIGH, model, digits(), loss=LOSS, optimizer=optimizer)
    assert [finding.code for finding in findings] == ["optim.weight-decay-too-high"] * high


X = torch.randn(320, 4, generator=torch.Generator().manual_seed(0))


RATES = (X[:, 0] - 0.5).exp()


@pytest.mark.parametrize(("kind", "decay"), [("Adam", 2000.0), ("RMSprop", 2000.0), ("Adam", 5e-4)])
def test_decay_with_a_loss_that_falls_below_zero(kind: str, decay: float) -> None:
    torch.manual_seed(0)
    model = Column(True)
    optimizer = getattr(torch.optim, kind)(model.parameters(), 0.01, weight_decay=decay)
    options: Any = {"optimizer": optimizer, "loss": nn.PoissonNLLLoss(), "task": "regress"}
    findings = asked(WEIGHT_DECAY_TOO_HIGH, model, rows_in_batches(X, RATES), **options)
    assert [one.code for one in findings] == ["optim.weight-decay-too-high"] * (decay > 1)


class Margin(nn.Module):
    def forward(self, scores: Tensor, signs: Tensor) -> Tensor:
        return (1 - signs * scores).clamp(min=0).square().mean()


SIGNS = (X[:, 0] + X[:, 1] * X[:, 2]).sign()


@pytest.mark.parametrize("few", [True, False])
def test_a_strong_decay_of_the_weights_of_a_margin_alone(few: bool) -> None:
    torch.manual_seed(0)
    model = Scores()
    groups = [
        {"params": model.body.parameters(), "weight_decay": 1e-4 if few else 0.05},
        {"params": model.head.parameters(), "weight_decay": 0.05},
    ]
    optimizer = torch.optim.SGD(groups, 0.05, momentum=0.9)
    findings = asked(WEIGHT_DECAY_TOO_HIGH, model, rows_in_batches(X, SIGNS), optimizer=optimizer, loss=Margin())
    assert [one.code for one in findings] == ["optim.weight-decay-too-high"] * (not few)


def test_a_trial_that_is_requested_again_returns_its_notes() -> None:
    model = perceptron(16)

    def penalized(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return loop(model, batch, optimizer, lambda *given: loss(*given) + model[1].weight.square().sum())

    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    evidence = Evidence(
        make_setup(model, digits(most=64), step=penalized, optimizer=optimizer, loss=LOSS), Clock(120.0)
    )
    assert [_pulled(evidence), _pulled(evidence)] == [True, True]
    linear = next(call for call in evidence.graph.calls if call.name == "linear")
    given = [_argument_of(evidence, linear, place) for place in (0, 1, 1, 3)]
    assert [None if one is None else tuple(one.shape) for one in given] == [(32, 64), (16, 64), (16, 64), None]


@pytest.mark.parametrize("decay", [0.02, 0.0001])
def test_weights_are_decayed_by_hand(decay: float) -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(functional.cross_entropy(model(batch[0]), batch[1]), optimizer)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 - decay)
        return loss

    found = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=optimizer, step=step)
    assert [one.where for one in found] == ["the training step"] * (decay > 0.01)


@pytest.mark.parametrize(("rate", "decay", "named"), [(3e-3, 10.0, True), (3e-3, 0.1, False), (0.1, 0.5, False)])
def test_a_decay_of_adamw_that_takes_percents_in_each_step(rate: float, decay: float, named: bool) -> None:
    optimizer = torch.optim.AdamW(nn.Linear(8, 3).parameters(), lr=rate, weight_decay=decay)
    assert [one.code for one in decay_of_optimizer(optimizer)] == ["optim.weight-decay-too-high"] * named


def test_decay_that_takes_all_weights() -> None:
    model = perceptron()
    options: dict[str, Any] = {"loss": LOSS}
    strong = sgd(model, weight_decay=2.0)
    (found,) = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=strong, **options)
    assert (found.code, found.severity) == ("optim.weight-decay-too-high", "error")
    assert "weight_decay=2 shrinks the weights to" in found.measured
    usual = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    assert not asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=usual, **options)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("decay", "wrong"), [(0.1, True), (5e-4, False)])
def test_decay_of_the_size_that_adamw_takes(decay: float, wrong: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=decay)
    found = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=optimizer, loss=LOSS)
    assert [f.code for f in found] == ["optim.weight-decay-too-high"] * wrong


def penalized(strength: float) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        (value + strength * sum(p.square().sum() for p in model.parameters())).backward()
        optimizer.step()
        return value

    return step


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("strength", "wrong"), [(1.0, True), (1e-4, False)])
def test_a_penalty_added_by_hand(strength: float, wrong: bool) -> None:
    model = perceptron()
    found = asked(
        WEIGHT_DECAY_TOO_HIGH,
        model,
        digits(),
        step=penalized(strength),
        optimizer=sgd(model),
        loss=LOSS,
    )
    assert bool(found) is wrong
    if found:
        assert found[0].where == "the loss"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("strength", "wrong"), [(3.0, True), (1e-4, False)])
def test_a_penalty_that_the_loss_consists_of(strength: float, wrong: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(640, 8)
    data = DataLoader(TensorDataset(x, x[:, :1] - x[:, 1:2]), 32, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.mse_loss(model(batch[0]), batch[1])
        value = value + strength * sum(p.square().sum() for p in model.parameters() if p.ndim > 1)
        value.backward()
        optimizer.step()
        return value

    found = asked(WEIGHT_DECAY_TOO_HIGH, model, data, step=step, optimizer=sgd(model))
    assert [f.code for f in found] == ["optim.weight-decay-too-high"] * wrong
    assert all("with only the gradient through the outputs R² is" in f.measured for f in found)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("factor", "wrong"), [(0.7, True), (0.999, False)])
def test_weights_made_smaller_by_the_step(factor: float, wrong: bool) -> None:
    model = perceptron()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= factor
        return value

    found = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)
    assert [finding.where for finding in found] == (["the training step"] if wrong else [])
