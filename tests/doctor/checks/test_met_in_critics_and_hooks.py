"""Hooks of optimizers, critics, and trials that are asked for twice: faults that were met in scripts, and their healthy
twins."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_reward_checks import SCRIPT, values
from torch import Tensor, nn

import striate.doctor
from striate.doctor.checks.model.last_layer import _given
from striate.doctor.checks.optim.steps import MISSING_ZERO_GRAD
from striate.doctor.checks.optim.weight_decay_too_high import _pulled
from striate.doctor.diagnose import examine_rewards
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
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


def test_who_asks_for_a_trial_again_is_given_what_was_noted_in_it() -> None:
    model = perceptron(16)

    def penalized(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return loop(model, batch, optimizer, lambda *given: loss(*given) + model[1].weight.square().sum())

    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    evidence = Evidence(
        make_setup(model, digits(most=64), step=penalized, optimizer=optimizer, loss=LOSS), Clock(120.0)
    )
    assert [_pulled(evidence), _pulled(evidence)] == [True, True]
    linear = next(call for call in evidence.graph.calls if call.name == "linear")
    given = [_given(evidence, linear, place) for place in (0, 1, 1, 3)]
    assert [None if one is None else tuple(one.shape) for one in given] == [(32, 64), (16, 64), (16, 64), None]


def test_what_a_trial_is_made_for_is_read_of_it() -> None:
    """Not of what the caller's own functions noted, which stays empty where the trial was made before."""
    files = list(Path(striate.doctor.__file__).parent.rglob("*.py"))
    texts = [text for text in map(Path.read_text, files) if re.search(r"^ +evidence\.variant\(", text, re.MULTILINE)]
    lines = [node for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    assert not [text for text in map(ast.unparse, lines) if text.startswith("evidence.variant(")]
