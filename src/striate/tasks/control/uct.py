"""UCT: a search over action sequences in a simulator that can be set back to a saved state."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Outcome(Protocol):
    """The result of an action."""

    @property
    def reward(self) -> float:
        """The reward of this step."""
        ...

    @property
    def over(self) -> bool:
        """Whether the episode ended."""
        ...


class Simulator(Protocol):
    """What a search needs of an environment (`striate.data.environments.environment.Environment` is one)."""

    def snapshot(self) -> Any:
        """A copy of the whole state."""
        ...

    def restore(self, snapshot: Any) -> None:
        """Restore the state, including that of random numbers."""
        ...

    def reseed(self, seed: int) -> None:
        """Draw random numbers from another seed from now on."""
        ...

    def step(self, action: int) -> Outcome:
        """Take one action."""
        ...


@dataclass(frozen=True)
class SearchConfig:
    """How long a planner searches for one action."""

    trajectories: int = 100
    """Number of trajectories played from the present state."""
    depth: int = 40
    """Largest number of steps of each."""
    gamma: float = 0.99
    """Discount of rewards per step."""
    exploration: float = 0.7
    """The constant of UCB1, in units of the range of the returns that the search has seen."""


@dataclass(frozen=True)
class Plan:
    """The result of a search from the present state."""

    action: int
    """Number of the best action."""
    visits: NDArray[np.int64]
    """(A,) number of visits of each action."""
    values: NDArray[np.float64]
    """(A,) mean discounted return of each action; NaN where it was never tried."""
    steps: int
    """Number of steps that were simulated."""


@dataclass
class _Node:
    """A node of the tree, a sequence of actions: how often each action followed it, and the sum of the returns from
    there."""

    visits: list[int]
    totals: list[float]
    untried: list[int]
    children: dict[int, _Node] = field(default_factory=dict)


def search(simulator: Simulator, actions: int, config: SearchConfig, rng: np.random.Generator) -> Plan:
    """The plan for the present state of a simulator with this number of `actions`, which returns to that state.

    UCT of Kocsis and Szepesvári, "Bandit based Monte-Carlo planning" (2006), as Guo et al., "Deep learning for
    real-time Atari game play using offline Monte-Carlo tree search planning" (2014) let it teach a network: actions in
    the tree by UCB1, untried ones first, one new node a trajectory, then random actions to the given depth. Nodes are
    sequences of actions, not states, so that each trajectory has random numbers of its own. The best action is the one
    with most visits; of equal ones, the one with the higher value.
    """
    here = simulator.snapshot()
    root = _new_node(actions, rng)
    low, high, steps = math.inf, -math.inf, 0
    for _ in range(max(config.trajectories, actions)):
        simulator.restore(here)
        simulator.reseed(int(rng.integers(2**31)))  # a search with the game's own random numbers would know the future
        path, rewards = _trajectory(simulator, root, config, max(high - low, 1e-9), rng)
        steps += len(rewards)
        value = 0.0
        for place in range(len(rewards) - 1, -1, -1):
            value = rewards[place] + config.gamma * value
            if place < len(path):
                node, action = path[place]
                node.visits[action] += 1
                node.totals[action] += value
        low, high = min(low, value), max(high, value)
    simulator.restore(here)
    visits, totals = np.array(root.visits), np.array(root.totals)
    values = np.where(visits > 0, totals / np.maximum(visits, 1), np.nan)
    best = np.flatnonzero(visits == visits.max())
    return Plan(int(best[np.argmax(values[best])]), visits, values, steps)


def _new_node(actions: int, rng: np.random.Generator) -> _Node:
    return _Node([0] * actions, [0.0] * actions, rng.permutation(actions).tolist())


def _trajectory(
    simulator: Simulator, root: _Node, config: SearchConfig, unit: float, rng: np.random.Generator
) -> tuple[list[tuple[_Node, int]], list[float]]:
    """One trajectory: its nodes of the tree with the actions taken there, and all its rewards."""
    path: list[tuple[_Node, int]] = []
    rewards: list[float] = []
    node: _Node | None = root
    actions = len(root.visits)
    rest = rng.integers(actions, size=config.depth).tolist()
    for place in range(config.depth):
        if node is None:
            action = rest[place]
        else:
            inside = not node.untried
            action = _ucb(node, config.exploration * unit) if inside else node.untried.pop()
            path.append((node, action))
            node = node.children.setdefault(action, _new_node(actions, rng)) if inside else None
        outcome = simulator.step(action)
        rewards.append(outcome.reward)
        if outcome.over:
            break
    return path, rewards


def _ucb(node: _Node, exploration: float) -> int:
    """The action with the highest upper confidence bound (UCB1)."""
    bonus = exploration * math.sqrt(2 * math.log(sum(node.visits)))
    best, chosen = -math.inf, 0
    for action, (count, total) in enumerate(zip(node.visits, node.totals, strict=True)):
        bound = total / count + bonus / math.sqrt(count)
        if bound > best:
            best, chosen = bound, action
    return chosen
