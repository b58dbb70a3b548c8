"""`optim.accumulation`: are gradients that are accumulated over batches divided by the number of batches?"""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, perceptron, said
from for_checks.scripts import SCRIPT, found, values
from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.optim.accumulation import ACCUMULATION, CLEARED, UNDIVIDED, is_divided
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("rate", "divided", "wrong"), [(0.5, False, True), (0.5, True, False), (0.01, False, False)])
def test_micro_batches_of_one_step_are_divided(rate: float, divided: bool, wrong: bool) -> None:
    model = perceptron()

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = torch.zeros(())
        for x, y in zip(batch[0].split(4), batch[1].split(4), strict=True):
            value = loss(net(x), y) / (8 if divided else 1)
            value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value.detach()

    optimizer = torch.optim.SGD(model.parameters(), rate)
    found = said(ACCUMULATION, model, digits(), loss=LOSS, optimizer=optimizer, step=step)
    assert ["gradients of 8 batches" in one.measured for one in found] == [True] * wrong


@pytest.mark.parametrize("check", [ACCUMULATION, DEGENERATE])
def test_one_batch_at_two_states_of_the_weights_is_no_sum_and_no_pair(check: Check) -> None:
    """Sharpness-aware minimization (Foret et al. 2021), with a rate at which the loss leaps before it falls."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        with torch.no_grad():
            moves = [0.05 * p.grad / p.grad.norm().clamp(min=1e-9) for p in model.parameters() if p.grad is not None]
            for p, move in zip(model.parameters(), moves, strict=True):
                p.add_(move)
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        with torch.no_grad():
            for p, move in zip(model.parameters(), moves, strict=True):
                p.sub_(move)
        optimizer.step()
        return value.detach()

    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    assert asked(check, model, digits(), loss=nn.CrossEntropyLoss(), optimizer=optimizer, step=step) == []


class Steps:
    """Steps once in several batches. `cleared`: gradients of each are cleared before it. `own`: each is added up in
    tensors of the loop's own, of which the optimizer gets the mean. `seldom`: all but the last are only looked at."""

    def __init__(self, way: str, count: int = 4) -> None:
        self.way, self.count, self.seen = way, count, 0
        self.sums: list[Tensor] = []

    def __call__(self, net: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        self.seen += 1
        last = self.seen % self.count == 0
        if self.way != "added":
            optimizer.zero_grad()
        value: Tensor = loss(net(batch[0]), batch[1]) / self.count
        if self.way != "seldom" or last:
            value.backward()
        if self.way == "own":
            gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
            self.sums = [a + b for a, b in zip(self.sums, gradients, strict=True)] if self.sums else gradients
        if last:
            for p, total in zip(net.parameters(), self.sums, strict=False):
                p.grad, self.sums = total, self.sums[1:]
            optimizer.step()
            optimizer.zero_grad()
        return value.detach()


@pytest.mark.parametrize("way", ["cleared", "added", "own", "seldom"])
def test_batches_whose_gradients_are_gone_before_the_step(way: str) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    found = said(ACCUMULATION, model, digits(), loss=LOSS, optimizer=optimizer, step=Steps(way))
    assert ["the last one alone" in one.measured for one in found] == [True] * (way == "cleared")


class Heads(nn.Module):
    """Two answers for an image."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.other = nn.Flatten(), nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return self.one(x), self.other(x)


@pytest.mark.parametrize("divided", [True, False])
def test_of_several_losses_added_up_the_sum_is_divided(divided: bool) -> None:
    state = {"number": 0}

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        state["number"] += 1
        one, other = model(batch[0])
        loss = functional.cross_entropy(one, batch[1]) + functional.cross_entropy(other, 9 - batch[1])
        (loss / 2 if divided else loss).backward()
        if state["number"] % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    setup = make_setup(Heads(), digits(), step=step, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    assert is_divided(Evidence(setup, Clock(60.0)), 2) is divided


@pytest.mark.parametrize(
    ("loss", "epochs", "optimizer", "told"),
    [
        ("loss", "5", torch.optim.SGD, True),
        ("loss", "total // accum_steps", torch.optim.SGD, True),
        ("loss", "batch_size * accum_steps", torch.optim.SGD, True),
        ("loss", "rate * accum_steps", torch.optim.SGD, False),
        ("loss / accum_steps", "5", torch.optim.SGD, False),
        ("loss.div(accum_steps)", "5", torch.optim.SGD, False),
        ("loss", "5", torch.optim.Adam, False),
    ],
)
def test_what_is_added_up_for_a_named_number_of_batches_is_divided_by_it(
    loss: str, epochs: str, optimizer: Any, told: bool
) -> None:
    step = "        if (i + 1) % accum_steps == 0:\n            scaler.step(optimizer)\n            "
    step += "optimizer.zero_grad()\n"
    text = SCRIPT.replace("        optimizer.zero_grad()\n", "").replace("        scaler.step(optimizer)\n", step)
    text = text.replace("scaler.scale(loss)", f"scaler.scale({loss})").replace("range(5)", f"range({epochs})")
    names = values()
    names["optimizer"] = optimizer(names["model"].parameters(), lr=0.01)
    remedies = found(text, names, [UNDIVIDED])
    assert remedies == ({"optim.accumulation": "divide the loss: `(loss / accum_steps).backward()`"} if told else {})


SKIPPING = """
for i, (x, y) in enumerate(loader):
    {first}
    loss = criterion(model(x), y) / 4
    {before}
    loss.backward()
    if (i + 1) % 4 != 0:
        continue
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize(
    ("first", "before", "told"),
    [
        ("pass", "optimizer.zero_grad()", True),
        ("pass", "pass", False),
        ("optimizer.zero_grad()", "if i % 4 != 3: continue", False),  # batches are left out, and none is added up
    ],
)
def test_gradients_cleared_for_each_batch_before_the_loop_goes_on_without_a_step(
    first: str, before: str, told: bool
) -> None:
    tree, names = ast.parse(SKIPPING.format(first=first, before=before)), values()
    source = ScriptSource({"train.py": tree}, names, ("train.py", 1, 12), 5)
    setup = make_setup(names["model"], names["loader"], loss=LOSS, optimizer=names["optimizer"], source=source)
    findings = list(CLEARED.run(Evidence(setup, Clock(20.0))))
    assert ["only the last batch counts" in one.measured for one in findings] == [True] * told
