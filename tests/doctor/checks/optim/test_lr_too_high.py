"""`optim.lr-too-high`: does a lower learning rate get much farther?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, perceptron, said, sgd
from for_checks.claims import Flow, likelihood, sensors
from for_checks.pictures import signs
from striate.doctor.checks.optim.lr_too_high import LR_TOO_HIGH
from striate.doctor.checks.optim.lr_too_low import LR_TOO_LOW


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "right"), [(0.1, False), (1e-3, True)])
def test_a_likelihood_that_leaps_has_too_high_a_rate(rate: float, right: bool) -> None:
    flow = Flow()
    options: Any = {"optimizer": torch.optim.Adam(flow.parameters(), rate), "step": likelihood(), "task": "regress"}
    assert [one.code for one in asked(LR_TOO_HIGH, flow, sensors(), **options)] == ["optim.lr-too-high"] * (not right)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "said"), [(0.05, True), (0.003, False)])
def test_adam_at_a_large_rate_is_later_worse_than_a_tenth_of_it(rate: float, said: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("striate.doctor.evidence.evidence.STEPS", 40)  # as of a network with slow steps
    model, train = signs(3)
    found = asked(LR_TOO_HIGH, model, train, optimizer=torch.optim.Adam(model.parameters(), lr=rate))
    assert bool(found) == said


@pytest.mark.slow
@pytest.mark.parametrize(("check", "rate"), [(LR_TOO_HIGH, 0.3), (LR_TOO_LOW, 3e-6), (LR_TOO_HIGH, 3e-3)])
def test_a_rate_is_judged_before_all_of_it_is_reached(check: Any, rate: float) -> None:
    model, data = perceptron(64), digits()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 130))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(net(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        scheduler.step()
        return value.detach()

    options: dict[str, Any] = {"optimizer": optimizer, "step": step}
    assert len(asked(check, model, data, **options)) == (rate != 3e-3)


CROSS_ENTROPY = functional.cross_entropy


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.003])
def test_adam_with_the_rate_of_gradient_descent_learns_something(rate: float) -> None:
    model = perceptron(64, depth=2)
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    found = asked(LR_TOO_HIGH, model, digits(), loss=CROSS_ENTROPY, optimizer=optimizer, step=loop)
    assert len(found) == (rate > 0.01)


LOSS = nn.CrossEntropyLoss()


@pytest.mark.slow
def test_a_rate_that_a_warmup_leads_to_is_tried() -> None:
    for rate, wrong in ((3.0, True), (3e-3, False)):
        model = perceptron()
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate)

        def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any, rate: float = rate) -> Tensor:
            for group in own.param_groups:
                group["lr"] = min(rate, group["lr"] + rate * 1e-6) if group["lr"] < rate else rate * 1e-6
            own.zero_grad()
            value: Tensor = loss(net(batch[0]), batch[1])
            value.backward()
            own.step()
            return value.detach()

        found = asked(LR_TOO_HIGH, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
        assert ["rising to 3" in one.measured for one in found] == [True] * wrong


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "momentum", "far"), [(5e-4, 0.999, True), (1e-5, 0.999, False), (5e-4, 0.9, False)])
def test_momentum_adds_up_steps_of_one_length(rate: float, momentum: float, far: bool) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(parameters, lr=rate, momentum=momentum)

    found = said(LR_TOO_HIGH, perceptron(), digits(), optimizer=make)
    assert ["adds up" in one.measured for one in found] == [True] * far


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "momentum"), [(1000.0, 0.0), (5.0, 0.9)])
def test_a_rate_at_which_nothing_is_learned_is_too_high(rate: float, momentum: float) -> None:
    model = perceptron()
    (found,) = asked(LR_TOO_HIGH, model, digits(), optimizer=sgd(model, rate, momentum=momentum))
    assert (found.code, found.severity) == ("optim.lr-too-high", "error")
    assert f"instead of lr {rate:g} the loss after" in found.measured
    assert "lr=" in found.remedy


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "too_high"), [(0.1, True), (0.03, False)])
def test_adams_rate_is_too_high_where_it_is_as_large_as_weights(rate: float, too_high: bool) -> None:
    """Though it gets some way, and labels of which some are wrong let no rate get four times as far."""
    generator = torch.Generator().manual_seed(0)
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    y = torch.where(torch.rand(len(y), generator=generator) < 0.3, torch.randint(10, y.shape, generator=generator), y)
    torch.manual_seed(0)
    layers = [part for size in (64, 32) for part in (nn.Linear(size, 32), nn.Tanh())]
    model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(32, 10))
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=generator)
    found = asked(LR_TOO_HIGH, model, loader, optimizer=torch.optim.Adam(model.parameters(), lr=rate))
    assert [finding.code for finding in found] == ["optim.lr-too-high"] * too_high


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_rates_that_learn_are_not_too_high(rate: float) -> None:
    model = perceptron()
    assert not asked(LR_TOO_HIGH, model, digits(), optimizer=sgd(model, rate))


def test_a_loss_that_no_rate_makes_smaller_is_not_the_rates_fault() -> None:
    model = perceptron()
    x = torch.randn(320, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.randint(0, 10, (320,), generator=torch.Generator().manual_seed(2))
    assert not asked(LR_TOO_HIGH, model, (x, y), optimizer=sgd(model, 0.3))


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "too_high"), [(0.03, True), (0.003, False)])
def test_a_large_rate_of_adam_may_learn_more_than_half(rate: float, too_high: bool) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    found = asked(LR_TOO_HIGH, model, digits(), optimizer=torch.optim.Adam(model.parameters(), lr=rate))
    assert [one.severity for one in found] == ["warning"] * too_high
