"""The search finds what exhaustive search finds, in games of a few states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from striate.data.environments.environment import Step
from striate.tasks.control.uct import SearchConfig, search

_DEPTH, _ACTIONS = 4, 3
_FRAME = np.zeros((1, 1, 1), np.uint8)


class Tree:
    """A game of four moves whose rewards are a table; a move may end it."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rewards = [rng.random(_ACTIONS ** (level + 1)).round(2) for level in range(_DEPTH)]
        self.ends = [rng.random(_ACTIONS ** (level + 1)) < 0.2 for level in range(_DEPTH)]
        self.level, self.place = 0, 0

    def snapshot(self) -> Any:
        return self.level, self.place

    def restore(self, saved: Any) -> None:
        self.level, self.place = saved

    def reseed(self, seed: int) -> None:
        pass

    def step(self, action: int) -> Step:
        self.place = self.place * _ACTIONS + action
        reward, end = self.rewards[self.level][self.place], self.ends[self.level][self.place]
        self.level += 1
        return Step(_FRAME, float(reward), bool(end) or self.level == _DEPTH, False)

    def best(self, gamma: float, level: int = 0, place: int = 0) -> list[float]:
        """The value of each action under the best play after it."""
        found = []
        for action in range(_ACTIONS):
            child = place * _ACTIONS + action
            value = float(self.rewards[level][child])
            if level + 1 < _DEPTH and not self.ends[level][child]:
                value += gamma * max(self.best(gamma, level + 1, child))
            found.append(value)
        return found


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_exhaustive_search(seed: int) -> None:
    game = Tree(seed)
    truth = game.best(0.9)
    plan = search(game, _ACTIONS, SearchConfig(4000, 10, 0.9, 0.5), np.random.default_rng(0))
    assert truth[plan.action] >= max(truth) - 0.02
    assert plan.values[plan.action] == pytest.approx(truth[plan.action], abs=0.1)
    assert plan.visits.sum() == 4000
    assert (game.level, game.place) == (0, 0)


class Coin:
    """Action 0 pays 0.4; action 1 pays 1 with a probability of 0.7. The game itself will throw 0."""

    def __init__(self) -> None:
        self.chance = np.random.default_rng(0)

    def snapshot(self) -> Any:
        return self.chance.bit_generator.state

    def restore(self, saved: Any) -> None:
        self.chance.bit_generator.state = saved

    def reseed(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)

    def step(self, action: int) -> Step:
        thrown = self.chance.random()
        return Step(_FRAME, float(thrown < 0.7) if action else 0.4, True, False)


def test_chance_is_drawn_anew_and_put_back() -> None:
    game = Coin()
    before = game.snapshot()
    while game.chance.random() < 0.7:
        before = game.snapshot()
    game.restore(before)  # the next throw pays nothing, which the planner must not know
    plan = search(game, 2, SearchConfig(400, 5), np.random.default_rng(1))
    assert plan.action == 1
    assert plan.values[1] == pytest.approx(0.7, abs=0.1)
    assert game.step(1).reward == 0


def test_the_same_seed_plans_the_same() -> None:
    one, other = (search(Tree(3), _ACTIONS, SearchConfig(200, 8), np.random.default_rng(7)) for _ in range(2))
    assert one.visits.tolist() == other.visits.tolist()
    assert one.steps == other.steps
