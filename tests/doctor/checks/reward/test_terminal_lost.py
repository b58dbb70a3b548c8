"""`reward.terminal-lost`: does the target leave out the next value at the end of an episode?"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.reward.target_stale import TARGET_STALE
from striate.doctor.checks.reward.terminal_lost import TERMINAL_LOST


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
    findings = read(text, TERMINAL_LOST, names["model"], digits(), names=names)
    assert [one.code for one in findings] == ["reward.terminal-lost"] * wrong


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
    findings = read(text, TARGET_STALE, names["model"], digits(), names=names)
    assert [one.code for one in findings] == ["reward.target-stale"] * wrong
