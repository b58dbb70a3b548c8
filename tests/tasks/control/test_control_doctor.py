"""Typical mistakes in learning from rewards, as replay buffers, settings and values show them."""

from __future__ import annotations

import numpy as np
import pytest

from striate.tasks.control.doctor import reward_values


@pytest.mark.parametrize(("rewards", "tiny"), [([-0.01] * 99, False), ([-0.01] * 98 + [0.01], True)])
def test_a_goal_may_not_have_been_met_yet(rewards: list[float], tiny: bool) -> None:
    assert [one.code for one in reward_values(np.array(rewards), "here")] == ["reward.scale"] * tiny


@pytest.mark.parametrize(("goal", "tiny"), [(1.0, False), (0.01, True)])
def test_a_price_for_each_step_is_beside_what_a_goal_pays(goal: float, tiny: bool) -> None:
    rewards = np.append(np.full(99, -0.01), goal)
    assert [one.code for one in reward_values(rewards, "here")] == ["reward.scale"] * tiny
