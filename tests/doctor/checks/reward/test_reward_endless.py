"""`reward.endless`: are values finite sums?"""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.rewards import Memory
from striate.doctor.checks.reward.endless import ENDLESS
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
