"""`reward.terminal-lost`, `reward.target-stale`, `reward.endless`: what values of later states are learned from."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import digits, perceptron, read
from for_checks.rewards import Memory
from striate.doctor.checks.reward.bootstrap import ENDLESS, TARGET_STALE, TERMINAL_LOST
from striate.doctor.setup.script_source import ScriptSource


class Agent:
    def __init__(self, reward: float, same: bool) -> None:
        self.memory = Memory(reward, same)


class Environment:
    action_space = 2

    def reset(self) -> Tensor:
        return torch.zeros(4)

    def step(self, action: int) -> tuple[Tensor, float, bool]:
        return torch.zeros(4), float(action), False


@pytest.mark.parametrize("ends", [True, False])
def test_episodes_that_end_by_themselves_need_no_discount(ends: bool) -> None:
    text = """
    for step in range(100):
        obs, reward, done = env.step(0)
        target = reward + gamma * net(obs).max()
    """
    names: dict[str, Any] = {"gamma": 1.0, "env": Environment(), "net": nn.Linear(4, 2)}
    if ends:
        names["agent"] = Agent(1.0, False)
    tree = ast.parse("if True:" + text)
    evidence: Any = SimpleNamespace(source=ScriptSource({"t.py": tree}, names, ("t.py", 2, 4), None))
    assert [one.code for one in ENDLESS.run(evidence)] == ["reward.endless"] * (not ends)


class Corridor:
    action_space = 2

    def reset(self) -> int:
        return 0

    def step(self, _: int) -> tuple[int, float, bool]:
        return 0, 0.0, False


@pytest.mark.parametrize(("discount", "wrong"), [(0.9, True), (torch.tensor([0.9, 0.0]), False)])
def test_discounts_may_be_stored_with_transitions(discount: Any, wrong: bool) -> None:
    text = """
    for x, y in loader:
        next_obs, reward, terminated = env.step(action)
        best = target_network(next_obs).max(1).values
        target = reward + discount * best
        loss = criterion(model(x), target)
    """
    names = {"env": Corridor(), "model": perceptron(), "target_network": perceptron(), "discount": discount}
    said = read(text, TERMINAL_LOST, names["model"], digits(), names=names)
    assert [one.code for one in said] == ["reward.terminal-lost"] * wrong


@pytest.mark.parametrize(
    ("line", "wrong"), [("target = 0.01 * p + 0.99 * target", True), ("target.lerp_(p, 0.01)", False)]
)
def test_a_name_that_gets_the_average_is_no_update(line: str, wrong: bool) -> None:
    text = f"""
    for x, y in loader:
        next_obs, reward, terminated = env.step(action)
        best = target_network(next_obs).max(1).values
        loss = criterion(model(x), reward + gamma * best * (1 - terminated))
        for p, target in zip(model.parameters(), target_network.parameters()):
            {line}
    """
    names = {"env": Corridor(), "model": perceptron(), "target_network": perceptron(), "gamma": 0.9}
    said = read(text, TARGET_STALE, names["model"], digits(), names=names)
    assert [one.code for one in said] == ["reward.target-stale"] * wrong
