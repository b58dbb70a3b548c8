"""What a replay buffer or a recording of games holds, and what its numbers alone say of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FEWEST = 30
"""Transitions, or rewards other than 0, with which nothing is said of a shift."""


@dataclass(frozen=True, eq=False)
class Experience:
    """T transitions of one player in the order of time.

    `observations`, `following`: (T, …), before and after each action
    `rewards`: (T,); `terminated`: (T,) bool, no reward can follow
    `truncated`: (T,) bool, only cut off; None where it is not recorded
    `one_array`: whether all observations lie in the memory of one
    """

    observations: NDArray[np.generic]
    following: NDArray[np.generic]
    rewards: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_] | None = None
    one_array: bool = False

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def ends(self) -> NDArray[np.bool_]:
        """(T,) whether an episode ended, as recorded."""
        return self.terminated if self.truncated is None else self.terminated | self.truncated


def observation_shift(experience: Experience) -> int | None:
    """How many steps after its observation the following one was seen: 1 as it should be; 0 where it is the same, 2 one
    too late, -1 the one before. None where fewer than 4 of 5 agree on one, or all observations are equal."""
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
    """How many steps lead elsewhere than where the next one begins, as after a reset; and how many of these are not
    marked as the end of an episode."""
    flat, after = (part.reshape(len(part), -1) for part in (experience.observations, experience.following))
    breaks = (flat[1:] != after[:-1]).any(1)
    return int(breaks.sum()), int((breaks & ~experience.ends[:-1]).sum())


def reward_shift(experience: Experience, seed: int = 0) -> tuple[int, dict[int, float]] | None:
    """By how many steps rewards come too late (1), too early (-1) or not (0), and for each of the three how well the
    events of a step tell those with a reward from those without: the area under the ROC curve on the second half of the
    steps, by a logistic regression of the first half. None where there are too few rewards.

    Events are how much appears and disappears, a number each for each plane of (T, H, W, C) observations, else for the
    whole: a brick less, not where the ball is. Single pixels would tell the reward of the next step as well wherever
    the game is a function of what is seen. First and last steps of episodes are left out: what a reset shows is no
    event, and would tell rewards that come at the end of each episode a step late.
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
        model = LogisticRegression(C=1.0, max_iter=300, random_state=seed).fit(events[:half], first)
        found[shift] = float(roc_auc_score(second, model.decision_function(events[half:])))
    return max(found, key=lambda shift: found[shift]), found


def _inside(experience: Experience) -> NDArray[np.bool_]:
    """(T,) whether the step before and the step after a step are of the same episode."""
    flat, after = (part.reshape(len(part), -1) for part in (experience.observations, experience.following))
    last = experience.ends.copy()
    last[:-1] |= (flat[1:] != after[:-1]).any(1)
    last[-1:] = True
    inside: NDArray[np.bool_] = ~last & ~np.roll(last, 1)
    return inside


def _events(experience: Experience) -> NDArray[np.float32]:
    """(T, 2 planes): what appears and what disappears in a step, in units of the largest value."""
    seen, after = (part.astype(np.float32) for part in (experience.observations, experience.following))
    planes = seen.shape[-1] if seen.ndim == 4 else 1
    change = (after - seen).reshape(len(seen), -1, planes) / max(float(np.abs(seen).max(initial=0)), 1e-9)
    sums: NDArray[np.float32] = np.concatenate([np.maximum(change, 0).sum(1), np.minimum(change, 0).sum(1)], axis=1)
    return sums
