"""What a loss comes to: NaN or Inf, uphill, off at first, small for nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — as everybody writes it
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.initial_off import INITIAL_OFF
from striate.doctor.checks.loss.not_finite import NOT_FINITE
from striate.doctor.checks.loss.sign.sign import SIGN

LOSS = nn.CrossEntropyLoss()


def sgd(model: nn.Module, lr: float = 0.05, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def test_the_logarithm_of_nothing_is_named() -> None:
    def likelihood(outputs: Tensor, y: Tensor) -> Tensor:
        return -torch.log(torch.relu(outputs))[torch.arange(len(y)), y].mean()

    (found,) = asked(NOT_FINITE, perceptron(), digits(), loss=likelihood)
    assert (found.code, found.severity) == ("loss.not-finite", "error")
    assert "inf" in found.measured
    assert "1e-8" in found.remedy


def test_a_slope_that_is_infinite_is_traced_to_its_function() -> None:
    def distance(outputs: Tensor, y: Tensor) -> Tensor:
        nothing = torch.sqrt((outputs * 0).square().sum(1)).mean()
        return F.cross_entropy(outputs, y) + nothing

    (found,) = asked(NOT_FINITE, perceptron(), digits(), loss=distance)
    assert "in backward, pow is where it begins" in found.measured  # infinity, of the root, times 0
    assert "gradients are not finite though the loss is" in found.measured


def test_weights_that_are_no_numbers_are_named() -> None:
    model = perceptron()
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    (found,) = asked(NOT_FINITE, model, digits(), loss=LOSS)
    assert found.where == "1.weight"


def test_perfect_answers_without_a_loss_are_a_warning() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, (x[:, :1] > 0).float()), 32)
    model = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())

    def own(p: Tensor, y: Tensor) -> Tensor:
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()

    (found,) = asked(NOT_FINITE, model, loader, loss=own)
    assert found.severity == "warning"
    assert not asked(NOT_FINITE, model, loader, loss=nn.BCELoss())


def test_weights_that_ran_away_are_no_matter_of_the_loss() -> None:
    model = perceptron(depth=3)

    def squares(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - F.one_hot(y, 10)).square().sum(1).mean()

    assert not asked(NOT_FINITE, model, digits(), loss=squares, optimizer=sgd(model, 50.0))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("way", ["maximize", "negated", "own"])
def test_uphill_is_named_with_what_downhill_gives(way: str) -> None:
    model = perceptron()
    optimizer = sgd(model, maximize=way == "maximize")

    def negated(outputs: Tensor, y: Tensor) -> Tensor:
        return -F.cross_entropy(outputs, y) if way == "negated" else F.cross_entropy(outputs, y)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        model.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter += 0.05 * parameter.grad
        return value

    given: dict[str, Any] = {"step": step} if way == "own" else {}
    (found,) = asked(SIGN, model, digits(), loss=negated, optimizer=optimizer, **given)
    assert (found.code, found.severity) == ("loss.sign", "error")
    assert ("below zero" if way == "negated" else "turned round it went down") in found.measured
    remedy = {"maximize": "without `maximize=True`", "negated": "-loss", "own": "its own step go down the gradient"}
    assert remedy[way] in found.remedy


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_part_of_the_loss_with_the_wrong_sign(sign: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, 12, 12, generator=generator)
    loader = DataLoader(TensorDataset(x, (x > 1).float()), 16)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def both(outputs: Tensor, y: Tensor) -> Tensor:
        p = outputs.sigmoid()
        dice = (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        return F.binary_cross_entropy_with_logits(outputs, y) + sign * dice

    found = asked(SIGN, model, loader, loss=both, optimizer=torch.optim.Adam(model.parameters(), 1e-3))
    assert [f.code for f in found] == ["loss.sign"] * (sign > 0)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("kind", ["squares", "squares of probabilities", "hinge", "smoothed"])
def test_other_losses_ask_for_right_answers_too(kind: str) -> None:
    model = perceptron()

    def asks(outputs: Tensor, y: Tensor) -> Tensor:
        if kind == "smoothed":
            return F.cross_entropy(outputs, y, label_smoothing=0.2)
        if kind == "hinge":
            return F.multi_margin_loss(outputs, y)
        given = outputs.softmax(1) if kind == "squares of probabilities" else outputs
        return (given - F.one_hot(y, 10)).square().sum(1).mean()

    assert not asked(SIGN, model, digits(), loss=asks, optimizer=sgd(model))


def test_twice_negative_is_downhill() -> None:
    model = perceptron()

    def negated(outputs: Tensor, y: Tensor) -> Tensor:
        return -F.cross_entropy(outputs, y)

    assert not asked(SIGN, model, digits(), loss=negated, optimizer=sgd(model, maximize=True))


def test_a_rate_too_high_is_no_wrong_sign() -> None:
    model = perceptron()
    assert not asked(SIGN, model, digits(), loss=LOSS, optimizer=sgd(model, 30.0))


def test_answers_that_are_too_sure_at_first() -> None:
    model = perceptron()
    nn.init.normal_(model[-1].weight, std=3.0)
    (found,) = asked(INITIAL_OFF, model, digits(), loss=LOSS, optimizer=sgd(model))
    assert (found.code, found.severity) == ("loss.initial-off", "warning")
    assert "ln 10 = 2.3" in found.measured
    assert "model[3].weight, std=0.01" in found.remedy


def test_usual_first_weights_are_sure_enough() -> None:
    model = perceptron()
    nn.init.kaiming_normal_(model[-1].weight)
    assert not asked(INITIAL_OFF, model, digits(), loss=LOSS, optimizer=sgd(model))


def test_quantities_that_spread_too_far_at_first() -> None:
    x = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x[:, :1]), 32)
    model = perceptron()
    model[-1] = nn.Linear(32, 1)
    nn.init.normal_(model[-1].weight, std=20.0)
    (found,) = asked(INITIAL_OFF, model, loader, optimizer=sgd(model, 1e-4), task="regress")
    assert "that of the targets" in found.measured


def test_a_scale_that_may_vanish_is_degenerate() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    y = torch.randn(256, 1, generator=torch.Generator().manual_seed(1))
    model = perceptron()
    model[-1] = nn.Linear(32, 2)

    def without_its_price(outputs: Tensor, y: Tensor) -> Tensor:
        return ((outputs[:, :1] - y).square() * torch.exp(-outputs[:, 1:])).mean()

    def with_its_price(outputs: Tensor, y: Tensor) -> Tensor:
        return without_its_price(outputs, y) + outputs[:, 1:].mean()

    loader = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    options: dict[str, Any] = {"optimizer": optimizer, "task": "regress"}
    (found,) = asked(DEGENERATE, model, loader, loss=without_its_price, **options)
    assert (found.code, found.severity) == ("loss.degenerate", "error")
    assert "torch.log(scale)" in found.remedy
    assert not asked(DEGENERATE, model, loader, loss=with_its_price, **options)


def test_a_loss_that_is_cut_off_has_no_gradient() -> None:
    (found,) = asked(DEGENERATE, perceptron(), digits(), loss=lambda o, y: F.cross_entropy(o, y).clamp(max=1.0))
    assert "is zero in each of" in found.measured


def test_embeddings_without_others_become_one() -> None:
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    model = perceptron()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        one, other = model(batch), model(batch + 0.5 * torch.randn_like(batch))
        value = (one - other).square().mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    (found,) = asked(DEGENERATE, model, DataLoader(x, 32), step=step, optimizer=optimizer, task="embed")  # type: ignore[arg-type]
    assert "alike for all inputs" in found.measured
    assert "TripletMarginLoss" in found.remedy


@pytest.mark.parametrize("loss", [LOSS, nn.MultiMarginLoss()])
def test_losses_that_fall_for_good_are_not_degenerate(loss: Any) -> None:
    model = perceptron()
    assert not asked(DEGENERATE, model, digits(), loss=loss, optimizer=torch.optim.Adam(model.parameters(), 1e-2))


def test_a_loss_in_the_step_alone_is_seen() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch, optimizer, lambda o, y: -F.cross_entropy(o, y))

    model = perceptron()
    assert [found.code for found in asked(SIGN, model, digits(), step=step, optimizer=sgd(model))] == ["loss.sign"]
