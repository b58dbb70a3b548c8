"""Transitions of a replay buffer or a recording of games, and errors in them that the numbers alone show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEWEST = 30
"""With fewer transitions, or rewards other than 0, no shift is reported."""


@dataclass(frozen=True, eq=False)
class Experience:
    """T transitions of one player in the order of time."""

    observations: NDArray[np.generic]
    """(T, …) before each action."""
    following: NDArray[np.generic]
    """(T, …) after each action."""
    rewards: NDArray[np.float64]
    """(T,)."""
    terminated: NDArray[np.bool_]
    """(T,) whether the episode ended, and no reward can follow."""
    truncated: NDArray[np.bool_] | None = None
    """(T,) whether a limit of steps ended the episode; None where that is not recorded."""
    one_array: bool = False
    """Whether all observations share the memory of one array."""

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def ends(self) -> NDArray[np.bool_]:
        """(T,) whether an episode ended, by the record."""
        return self.terminated if self.truncated is None else self.terminated | self.truncated


def observation_shift(experience: Experience) -> int | None:
    """The number of steps from an observation to its `following` one: 1 if right, 0 if they are the same, 2 if it is
    one step late, -1 if it is the previous one. None where fewer than 80 % of the transitions agree, or all
    observations are equal."""
    size = len(experience) - 2
    flat, after = (part.reshape(len(part), -1) for part in (experience.observations, experience.following))
    if size < _FEWEST or not (flat != flat[0]).any():
        return None
    shares = {}
    for shift in (1, 0, 2, -1):
        low, high = max(0, -shift), len(flat) - max(0, shift)
        pairs = (flat[low + shift : high + shift] == after[low:high]).all(1)
        moving = (flat[low + shift : high + shift] != flat[low:high]).any(1) if shift else np.ones(len(pairs), bool)
        shares[shift] = float(pairs[moving].mean()) if moving.sum() >= _FEWEST else 0.0
    best = max(shares, key=lambda shift: shares[shift])
    return best if shares[best] >= 0.8 else None


def unmarked_resets(experience: Experience) -> tuple[int, int]:
    """The number of steps whose following observation differs from the next observation, as after a reset; and how many
    of them are not marked as the end of an episode."""
    flat, after = (part.reshape(len(part), -1) for part in (experience.observations, experience.following))
    breaks = (flat[1:] != after[:-1]).any(1)
    return int(breaks.sum()), int((breaks & ~experience.ends[:-1]).sum())


def reward_shift(experience: Experience) -> tuple[int, dict[int, float]] | None:
    """The shift of rewards in steps: 1 too late, -1 too early, 0 right; and for each of the three, how well the events
    of a step predict whether it has a reward. None where there are too few rewards.

    A logistic regression learns from the first half of the steps; its area under the ROC curve is measured on the
    second half. Events are how much appears and how much disappears, for each plane of (T, H, W, C) observations, or
    for all of other observations: a brick that is gone, not the place of the ball. Single pixels would also predict the
    reward of the next step, if the game is a function of the observation. First and last steps of episodes are left
    out: a reset is not an event, and it would predict rewards at the end of each episode one step late.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    inside = _inside(experience)
    events, paid = _events(experience)[inside], experience.rewards != 0
    half = len(events) // 2
    found = {}
    for shift in (0, 1, -1):
        wanted = np.roll(paid, -shift)[inside]
        first, second = wanted[:half], wanted[half:]
        if min(first.sum(), (~first).sum(), second.sum(), (~second).sum()) < _FEWEST // 2:
            return None
        model = LogisticRegression(C=1.0, max_iter=300, random_state=0).fit(events[:half], first)
        found[shift] = float(roc_auc_score(second, model.decision_function(events[half:])))
    return max(found, key=lambda shift: found[shift]), found


def _inside(experience: Experience) -> NDArray[np.bool_]:
    """(T,) whether the steps before and after a step belong to the same episode."""
    flat, after = (part.reshape(len(part), -1) for part in (experience.observations, experience.following))
    last = experience.ends.copy()
    last[:-1] |= (flat[1:] != after[:-1]).any(1)
    last[-1:] = True
    inside: NDArray[np.bool_] = ~last & ~np.roll(last, 1)
    return inside


def _events(experience: Experience) -> NDArray[np.float32]:
    """(T, 2 × planes): how much appears, and how much disappears, in a step, in units of the largest value."""
    seen, after = (part.astype(np.float32) for part in (experience.observations, experience.following))
    planes = seen.shape[-1] if seen.ndim == 4 else 1
    change = (after - seen).reshape(len(seen), -1, planes) / max(float(np.abs(seen).max(initial=0)), 1e-9)
    sums: NDArray[np.float32] = np.concatenate([np.maximum(change, 0).sum(1), np.minimum(change, 0).sum(1)], axis=1)
    return sums
