"""Hooks of optimizers, critics, and trials that are asked for twice: faults that were met in scripts, and their healthy
twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn

from striate.doctor.checks.optim.steps import MISSING_ZERO_GRAD
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


def uncleared(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value


def clears_by_its_closure(optimizer: Any) -> None:
    optimizer.register_step_post_hook(lambda *_: optimizer.zero_grad())


def clears_what_it_is_given(optimizer: Any) -> None:
    optimizer.register_step_post_hook(lambda given, *_: given.zero_grad())


def looks_on(optimizer: Any) -> None:
    optimizer.register_step_pre_hook(lambda *_: None)


@pytest.mark.parametrize("hook", [clears_by_its_closure, clears_what_it_is_given, looks_on])
def test_gradients_that_a_hook_of_the_optimizer_clears(hook: Any) -> None:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    hook(optimizer)
    said = asked(MISSING_ZERO_GRAD, model, digits(most=320), step=uncleared, optimizer=optimizer, loss=LOSS)
    assert [one.code for one in said] == ["optim.missing-zero-grad"] * (hook is looks_on)


def test_hooks_work_on_copies_in_trials_with_another_optimizer_too() -> None:
    model, train, calls = perceptron(), digits(), list[int]()
    optimizer, other = torch.optim.SGD(model.parameters(), 0.01), torch.optim.SGD([torch.zeros(1)], 0.01)
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    other.register_step_post_hook(lambda *_: calls.append(2))

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Any:
        other.step()
        value = uncleared(model, batch, optimizer, loss)
        return torch.tensor(float(calls[0] + calls[1])) + 0 * value

    setup = make_setup(model, train, step=step, optimizer=optimizer, loss=LOSS)
    for change in (Change(), Change(optimizer=lambda model: torch.optim.Adam(model.parameters()))):
        trial = run_trial(setup, list(train)[:1], 1, float("inf"), change)
        assert trial.losses == [3.0]
    assert not calls
