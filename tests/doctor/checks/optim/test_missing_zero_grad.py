"""`optim.missing-zero-grad`: are gradients cleared after the optimizer's step?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from for_checks.asked import asked, digits, perceptron, sgd
from for_checks.rewards import uncleared
from for_checks.scripts import source_of
from for_checks.steps import every_so_many
from striate.doctor.checks.optim.missing_zero_grad import MISSING_ZERO_GRAD
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


def clears_by_its_closure(optimizer: Any) -> None:
    optimizer.register_step_post_hook(lambda *_: optimizer.zero_grad())


def clears_its_arguments(optimizer: Any) -> None:
    optimizer.register_step_post_hook(lambda given, *_: given.zero_grad())


def only_watches(optimizer: Any) -> None:
    optimizer.register_step_pre_hook(lambda *_: None)


@pytest.mark.parametrize("hook", [clears_by_its_closure, clears_its_arguments, only_watches])
def test_gradients_that_a_hook_of_the_optimizer_clears(hook: Any) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    hook(optimizer)
    findings = asked(MISSING_ZERO_GRAD, model, digits(most=320), step=uncleared, optimizer=optimizer, loss=LOSS)
    assert [one.code for one in findings] == ["optim.missing-zero-grad"] * (hook is only_watches)


def test_gradients_that_are_put_in_their_place_need_no_clearing() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loss(model(batch[0]), batch[1])
        for p, g in zip(model.parameters(), torch.autograd.grad(value, list(model.parameters())), strict=True):
            p.grad = g
        optimizer.step()
        return value.detach()

    model = perceptron()
    assert not asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)


@pytest.mark.parametrize("cleared", [True, False])
def test_gradients_of_inner_steps_are_not_added_up(cleared: bool) -> None:
    """Meta-learning (Finn et al. 2017): weights are adapted by `torch.autograd.grad` before gradients are cleared."""

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        inputs, targets = batch
        weights = dict(model.named_parameters())
        inner = loss(functional_call(model, weights, (inputs[::2],)), targets[::2])
        gradients = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        adapted = {name: p - 0.1 * g for (name, p), g in zip(weights.items(), gradients, strict=True)}
        value: Tensor = loss(functional_call(model, adapted, (inputs[1::2],)), targets[1::2])
        if cleared:
            optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    model = perceptron()
    findings = asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)
    assert [one.code for one in findings] == ["optim.missing-zero-grad"] * (not cleared)


def test_gradients_are_never_cleared() -> None:
    model = perceptron()
    step = every_so_many(clear="never")
    (found,) = asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)
    assert (found.code, found.severity) == ("optim.missing-zero-grad", "error")
    assert "`optimizer.zero_grad()` before `loss.backward()`" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("every", "clear"), [(1, "before"), (1, "after"), (4, "before"), (4, "after")])
def test_gradients_that_are_cleared_at_some_time(every: int, clear: str) -> None:
    model = perceptron()
    step = every_so_many(every, clear=clear)
    assert not asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)


CLOSURE = """
for x, y in loader:
    def closure():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss
    optimizer.step(closure)
"""


@pytest.mark.parametrize(
    ("text", "most", "faulty"),
    [
        (CLOSURE, 5, False),
        (CLOSURE.replace("        optimizer.zero_grad()\n", ""), 5, True),
        (CLOSURE.replace("        optimizer.zero_grad()\n", ""), 1, False),
    ],
)
def test_a_closure_that_adds_gradients_up_is_named(text: str, most: int, faulty: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=most)
    setup = make_setup(model, digits(), optimizer=optimizer, source=source_of(text))
    with state_preserved(setup):
        findings = list(MISSING_ZERO_GRAD.run(Evidence(setup, Clock(120.0))))
    assert [finding.where for finding in findings] == ["line 3"] * faulty
