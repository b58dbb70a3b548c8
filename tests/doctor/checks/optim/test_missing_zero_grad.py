"""`optim.missing-zero-grad`: are gradients cleared after the optimizer's step?"""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import asked, digits, perceptron, sgd
from for_checks.rewards import uncleared
from for_checks.scripts import source_of
from for_checks.steps import every_so_many
from striate.doctor.checks.optim.missing_zero_grad import MISSING_ZERO_GRAD
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
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


@pytest.mark.parametrize("left", [True, False])
def test_gradients_that_are_put_in_their_place_need_no_clearing(left: bool) -> None:
    text = (
        "for x, y in loader:\n    gradients = torch.autograd.grad(loss, parameters)\n" + "    loss.backward()\n" * left
    )

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loss(model(batch[0]), batch[1])
        for p, g in zip(model.parameters(), torch.autograd.grad(value, list(model.parameters())), strict=True):
            p.grad = g if p.grad is None or not left else p.grad
        optimizer.step()
        return value.detach()

    model = perceptron()
    tree = ast.parse(text)
    line = next(node for node in ast.walk(tree) if isinstance(node, ast.For))
    source = ScriptSource({"a.py": tree}, {"model": model}, ("a.py", line.lineno, line.end_lineno or 0), 1)
    options: Any = {"step": step, "loss": nn.CrossEntropyLoss(), "source": source}
    findings = asked(MISSING_ZERO_GRAD, model, digits(), optimizer=torch.optim.SGD(model.parameters(), 0.05), **options)
    assert [one.code for one in findings] == ["optim.missing-zero-grad"] * left


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
