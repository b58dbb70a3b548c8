"""Ends and random actions of players, decays, negatives and neighbors; and their twins."""

from __future__ import annotations

import pytest
from test_reward_checks import SCRIPT, values
from test_reward_checks import found as found_by_rewards


@pytest.mark.parametrize(
    ("stored", "asked", "named"),
    [
        ("truncated", "terminated or truncated", True),
        ("terminated", "terminated or truncated", False),
        ("truncated, terminated", "terminated or truncated", False),
        ("truncated", "terminated", False),
    ],
)
def test_an_end_that_is_asked_for_is_no_limit(stored: str, asked: str, named: bool) -> None:
    text = SCRIPT.replace("next_obs, terminated))", f"next_obs, {stored}))").replace("if done", f"if {asked}")
    assert found_by_rewards(text, values()) == ["reward.truncated-terminal"] * named


SCHEDULE = """
def share_of_random(start, end, duration, t):
    slope = (end - start) / duration
    return max(slope * t + start, {least})

"""


@pytest.mark.parametrize(
    ("least", "other", "named"), [("start", "", True), ("end", "", False), ("start", "    epsilon *= 0.9\n", False)]
)
def test_a_share_of_random_actions_by_a_function_of_the_step(least: str, other: str, named: bool) -> None:
    names = values()
    exec(SCHEDULE.format(least=least), names)
    choice = "max(0.05, 1 - step / 2000)\n"
    text = SCHEDULE.format(least=least) + SCRIPT.replace(choice, f"share_of_random(1.0, 0.05, 900, step)\n{other}")
    assert found_by_rewards(text, names) == ["reward.no-exploration"] * named
