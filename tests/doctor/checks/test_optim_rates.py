"""Learning rates and their schedules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.optim import rate_too_high
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE, _gets_there
from striate.doctor.checks.optim.rate_too_high import LR_TOO_HIGH, _farther_later
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress
from striate.doctor.setup.training_setup import make_setup


def sgd(model: nn.Module, lr: float, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


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


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("later", "told"), [((0.5, 0.9), True), ((0.5, 0.7), False), ((0.85, 0.99), False)])
def test_adams_rate_may_fall_behind_later(
    later: tuple[float, float], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that learns little in the trial, and after four times the steps so much as it is and with a tenth."""
    model = perceptron()
    setup = make_setup(model, digits(), None, optimizer=torch.optim.Adam(model.parameters(), lr=0.5))
    evidence, progress = Evidence(setup, Clock(60.0)), [Progress(1.0, 1.0, 1 - share, 640) for share in later]
    monkeypatch.setattr(rate_too_high, "both_later", lambda *_: progress)
    assert (_farther_later(evidence, Progress(1.0, 1.0, 0.9, 160)) is not None) is told


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_rates_that_learn_are_not_too_high(rate: float) -> None:
    model = perceptron()
    assert not asked(LR_TOO_HIGH, model, digits(), optimizer=sgd(model, rate))


def test_a_loss_that_no_rate_makes_smaller_is_not_the_rates_fault() -> None:
    model = perceptron()
    x = torch.randn(320, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.randint(0, 10, (320,), generator=torch.Generator().manual_seed(2))
    assert not asked(LR_TOO_HIGH, model, (x, y), optimizer=sgd(model, 0.3))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=1e-6), lambda p: torch.optim.Adam(p, lr=1e-8)])
def test_a_rate_that_leads_nowhere_is_too_low(make: Any) -> None:
    (found,) = asked(LR_TOO_LOW, perceptron(), digits(), optimizer=make)
    assert (found.code, found.severity) == ("optim.lr-too-low", "error")
    assert "epochs" in found.measured
    own = type(make(perceptron().parameters())).__name__
    assert found.remedy.startswith(f"`optimizer = torch.optim.{own}(model.parameters(), lr=")


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "nowhere"), [(1e-6, True), (1e-3, False)])
def test_steps_that_add_up_to_nothing_in_the_whole_training(rate: float, nowhere: bool) -> None:
    """Of a deep network without normalization a trial at a better rate shows next to nothing either."""
    layers = [part for _ in range(9) for part in (nn.Linear(64, 64), nn.Sigmoid())]
    model, loader = nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10)), digits()
    text = "for epoch in range(5):\n    for x, y in loader:\n        pass\n"
    found = read(text, LR_TOO_LOW, model, loader, loss=nn.CrossEntropyLoss(), optimizer=sgd(model, rate))
    assert ["in all steps" in finding.threshold for finding in found] == [True] * nowhere


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "nowhere"), [(1e-6, True), (1e-2, False)])
def test_a_warmup_is_counted_at_the_rate_that_it_leads_to(rate: float, nowhere: bool) -> None:
    model, loader = perceptron(), digits()
    optimizer = sgd(model, rate)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=10_000)

    def step(network: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loop(network, batch, own, loss)
        warmup.step()
        return value

    text = "for epoch in range(5):\n    for x, y in loader:\n        pass\n"
    found = read(text, LR_TOO_LOW, model, loader, loss=nn.CrossEntropyLoss(), optimizer=optimizer, step=step)
    assert [f"with lr {rate:g} a step moves" in finding.measured for finding in found] == [True] * nowhere


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "low"), [(5e-6, True), (3e-3, False)])
def test_a_rate_that_a_long_warmup_leads_to_is_tried_throughout(rate: float, low: bool) -> None:
    model, loader = perceptron(), digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, k / 350))
    text = "for epoch in range(20):\n    for x, y in loader:\n        pass\n"
    options: dict[str, Any] = {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer, "epochs": 20}
    found = read(text, LR_TOO_LOW, model, loader, step=scheduled(warmup, 1), **options)
    assert [f"instead of lr {rate:g} the loss" in finding.measured for finding in found] == [True] * low


class WithLoss(nn.Module):
    """Computes its own loss, and prefers the upper half of the classes at first."""

    def __init__(self) -> None:
        super().__init__()
        self.network = perceptron()
        with torch.no_grad():
            self.network[-1].bias[5:] += 2.0  # type: ignore[index,operator]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.network(x), y)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "low"), [(1e-6, True), (3e-3, False)])
def test_chance_is_known_where_the_network_computes_its_loss(rate: float, low: bool) -> None:
    """The first batch happens to have a higher loss than others: what comes after it is no progress."""
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    order = torch.cat([(y < 5).nonzero()[:32, 0], torch.arange(len(y))])
    loader = DataLoader(TensorDataset(x[order], y[order]), 32)
    model = WithLoss()

    def step(network: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = network(*batch)
        value.backward()
        optimizer.step()
        return value

    found = asked(LR_TOO_LOW, model, loader, step=step, optimizer=torch.optim.Adam(model.parameters(), lr=rate))
    assert [finding.severity for finding in found] == ["error"] * low


@pytest.mark.parametrize(("top", "there"), [(30, True), (80, False)])
def test_a_cycle_has_its_full_rate_before_half_of_it(top: int, there: bool) -> None:
    rates = [0.1 * number / top for number in range(top)] + [0.1 * (100 - n) / (100 - top) for n in range(top, 100)]
    assert _gets_there([(rates, 100, "step")], 0.1) is there
    assert _gets_there([(rates[:40], 100, "step")], 0.1) is there
    assert not _gets_there([(rates, 100, "epoch"), (rates[:20], 100, "step")], 0.1)


@pytest.mark.slow
def test_a_rate_of_zero() -> None:
    model = perceptron()
    (found,) = asked(LR_TOO_LOW, model, digits(), optimizer=sgd(model, 0.0))
    assert found.measured.startswith("the rate is 0; with lr 0.1 the loss after")


def test_patience_is_no_fault() -> None:
    """Ten thousand batches an epoch: what is slow in a hundred steps is quick enough."""

    class Long(list[Any]):
        def __len__(self) -> int:
            return 10_000

    model = perceptron()
    assert not asked(LR_TOO_LOW, model, Long(digits()), optimizer=sgd(model, 3e-4))


def test_a_trained_network_has_nothing_to_gain() -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(15):
        for batch in digits():
            loop(model, batch, optimizer, nn.functional.cross_entropy)
    assert not asked(LR_TOO_LOW, model, digits(), optimizer=sgd(model, 1e-5))


def test_the_doctors_own_rate_is_not_judged() -> None:
    assert not asked(LR_TOO_LOW, perceptron(), digits())


def test_steps_without_an_optimizer_are_made_longer() -> None:
    model = perceptron()

    def step(model: nn.Module, batch: Any, _: Any, loss: Any) -> Tensor:
        value: Tensor = loss(model(batch[0]), batch[1])
        gradients = torch.autograd.grad(value, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 1e-5 * gradient
        return value.detach()

    (found,) = asked(LR_TOO_LOW, model, digits(), step=step, loss=nn.functional.cross_entropy)
    assert "times as long" in found.measured


def scheduled(scheduler: Any, every: int) -> Any:
    count = 0

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        nonlocal count
        value = loop(model, batch, optimizer, loss)
        count += 1
        if count % every == 0:
            scheduler.step()
        return value

    return step


def test_a_schedule_for_epochs_that_is_stepped_at_each_batch() -> None:
    model = perceptron()
    optimizer = sgd(model, 0.05)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.1)
    options: dict[str, Any] = {"optimizer": optimizer, "loss": nn.CrossEntropyLoss()}
    (found,) = asked(LR_SCHEDULE, model, digits(), step=scheduled(scheduler, 1), **options)
    assert (found.code, found.severity) == ("optim.lr-schedule", "error")
    assert "falls below a tenth of 0.05 at step 4" in found.measured
    assert "once an epoch" in found.remedy
    assert not asked(LR_SCHEDULE, model, digits(), step=scheduled(scheduler, 20), **options)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("steps", "wrong"), [(300, False), (1_000_000, True)])
def test_a_warmup_ends_within_some_hundred_steps(steps: int, wrong: bool) -> None:
    model = perceptron()
    optimizer = sgd(model, 0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, (k + 1) / steps))
    found = asked(
        LR_SCHEDULE,
        model,
        digits(),
        step=scheduled(scheduler, 1),
        optimizer=optimizer,
        loss=nn.CrossEntropyLoss(),
    )
    assert bool(found) is wrong


def test_a_cosine_over_the_whole_training_is_sound() -> None:
    model = perceptron()
    optimizer = sgd(model, 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)
    assert not asked(LR_SCHEDULE, model, digits(), step=scheduled(scheduler, 1), optimizer=optimizer)


def test_a_rate_that_never_changes_is_not_gone_where_the_trial_ends_early() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 1e4)
    assert not asked(LR_SCHEDULE, model, digits(8), optimizer=optimizer, loss=nn.CrossEntropyLoss())
