"""Hooks of optimizers, critics, and trials that are asked for twice: faults that were met in scripts, and their healthy
twins."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_reward_checks import SCRIPT, values
from torch import Tensor, nn

from striate.doctor.checks.optim.steps import MISSING_ZERO_GRAD
from striate.doctor.diagnose import examine_rewards
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.script_source import ScriptSource
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


@pytest.mark.parametrize(
    ("critic", "with_gradients", "stale"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_a_critic_with_gradients_that_no_optimizer_holds_is_no_target_network(
    critic: bool, with_gradients: bool, stale: bool
) -> None:
    """Though a copy of the trained network that is asked with gradients is one."""
    names = values(**({"target": nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 1))} if critic else {}))
    head, _, _ = SCRIPT.rpartition("    if step % 500")
    networks = (names["target"],) * with_gradients
    source = ScriptSource({"t.py": ast.parse(head)}, names, ("t.py", 4, 22), None, without_optimizer=networks)
    said = [one.code for one in examine_rewards(source).findings]
    assert ("reward.target-stale" in said) == stale
    assert ("optim.parameters-missing" in said) == (critic and with_gradients)
