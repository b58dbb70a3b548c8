"""`optim.lr-too-low`: does a higher learning rate get much farther?"""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop, perceptron, read, said, sgd, stepped
from for_checks.claims import patients, sorted_cox
from for_checks.scripts import Counting
from for_checks.steps import scheduled, stepping
from striate.doctor.checks.optim.lr_too_low import LR_TOO_LOW
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("factor", "wrong"), [(1e-8, True), (0.1, False)])
def test_a_loss_of_which_next_to_nothing_goes_backward(factor: float, wrong: bool) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        return factor * functional.cross_entropy(outputs, y)

    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = asked(LR_TOO_LOW, model, digits(), optimizer=optimizer, **stepping(loss))
    assert ["1e-08 times the loss" in finding.measured for finding in found] == [True] * wrong


LOSS = nn.CrossEntropyLoss()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("passes", "low"), [(100, True), (100_000, False)])
def test_a_rate_is_too_low_for_a_script_that_ends_before(passes: int, low: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1.5e-4)
    source = ScriptSource({"t.py": ast.parse("for i in range(300):\n    pass")}, {}, ("t.py", 1, 2), None)
    findings = asked(LR_TOO_LOW, model, Counting(passes), loss=LOSS, optimizer=optimizer, source=source)
    assert [finding.code for finding in findings] == ["optim.lr-too-low"] * low


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
@pytest.mark.parametrize(("rate", "eps", "where"), [(1e-3, 1.0, "eps of"), (0.3, 1.0, ""), (1e-8, 1e-8, "the opt")])
def test_an_eps_that_is_larger_than_the_gradients(kind: Any, rate: float, eps: float, where: str) -> None:
    """It does no harm at a rate that makes up for it."""
    model = perceptron()
    found = said(LR_TOO_LOW, model, digits(), loss=LOSS, optimizer=kind(model.parameters(), lr=rate, eps=eps))
    assert [one.where.startswith(where) for one in found] == [True] * bool(where)
    if where == "eps of":
        assert f"{kind.__name__}(model.parameters(), lr=0.001)" in found[0].remedy


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "low"), [(3e-5, True), (3e-3, False)])
def test_smoothed_labels_have_no_loss_of_zero(rate: float, low: bool) -> None:
    """A higher rate cannot make such a loss 1.5 times lower: it ends at 1.6, from 2.3."""
    loss, model = nn.CrossEntropyLoss(label_smoothing=0.45), perceptron()
    found = asked(LR_TOO_LOW, model, digits(), loss=loss, optimizer=torch.optim.Adam(model.parameters(), rate))
    assert [one.code for one in found] == ["optim.lr-too-low"] * low


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-6, 1e-2])
def test_a_rate_of_a_millionth_for_a_loss_without_a_known_chance(rate: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(sorted_cox(model(batch[0]).squeeze(1), *batch[1:]), optimizer)

    options: Any = {"loss": functional.mse_loss, "optimizer": torch.optim.AdamW(model.parameters(), rate), "step": step}
    found = asked(LR_TOO_LOW, model, patients(), **options)
    assert [one.severity for one in found] == ["error"] * (rate < 1e-3)


class Prices(nn.Module):
    """Gives quantities as they are, around their mean."""

    def __init__(self, std: float, mean: float) -> None:
        super().__init__()
        self.hidden, self.head, self.std, self.mean = nn.Linear(8, 48), nn.Linear(48, 1), std, mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(x).relu()).squeeze(1) * self.std + self.mean


@pytest.mark.parametrize("lost", [True, False])
def test_an_error_of_large_numbers_that_is_divided_by_their_variance(lost: bool) -> None:
    x = torch.randn(320, 8, generator=torch.Generator().manual_seed(0))
    y = 1e5 * (x.sum(1) + 3)
    torch.manual_seed(0)
    model, variance = Prices(float(y.std()), float(y.mean())), float(y.var())

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        loss = functional.mse_loss(model(batch[0]), batch[1]) / variance
        return stepped(1e-8 * loss if lost else loss, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step, "task": "regress"}
    findings = asked(LR_TOO_LOW, model, DataLoader(TensorDataset(x, y), 32), **options)
    assert [one.code for one in findings] == ["optim.lr-too-low"] * lost


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
