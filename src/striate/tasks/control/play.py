"""Plays episodes with the best action of a network, and measures their returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from striate import wording
from striate.data.counter_random import hash_key
from striate.data.environments.environment import Environment
from striate.data.environments.open_environment import opener
from striate.records import Interval
from striate.statistics.intervals import FEW, LEVEL, percentile_interval, resampled_means, wilson
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.network import SMALL_SIDE, action_values
from striate.tasks.metric import Metric
from striate.wording import several

RETURN = Metric("return")
"""The sum of rewards of an episode, as the game gives them."""
SEEDS = {"train": 0, "val": 1, "test": 2, "play": 3, "states": 4}
"""Episodes of each split have seeds of their own: hash(seed of the run, number of the split, …)."""


@dataclass(frozen=True)
class Played:
    """E played episodes."""

    returns: np.ndarray
    """(E,) undiscounted returns."""
    steps: np.ndarray
    """(E,) numbers of steps."""
    truncated: np.ndarray
    """(E,) whether each episode was truncated."""
    actions: np.ndarray
    """(A,) how often each action was taken."""
    loss: float | None
    """Mean squared difference of the value of each step from its target one step later (the loss of TD(0)); None where
    no step has one."""

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the mean return."""
        return mean_interval(self.returns)

    def metrics(self) -> dict[str, Any]:
        """The keys of a split in metrics.json."""
        interval = self.interval
        return {
            "n": len(self.returns),
            "loss": self.loss,
            "episodes": len(self.returns),
            "return": float(self.returns.mean()),
            "return_interval": [interval.low, interval.high],
            "return_median": float(np.median(self.returns)),
            "return_std": float(self.returns.std(ddof=1)) if len(self.returns) > 1 else None,
            "steps": int(self.steps.sum()),
            "truncated": int(self.truncated.sum()),
        }


def mean_interval(returns: np.ndarray) -> Interval:
    """95 % interval for a mean over episodes, by the percentiles of resampled means (Efron 1979). For few episodes,
    where these are too narrow, it is Student's. For games that are won or lost, 1 or −1, it is Wilson's, which has a
    width where all are won."""
    values = np.asarray(returns, np.float64)
    if (np.abs(values) == 1).all():
        won = wilson(int((values > 0).sum()), len(values))
        return Interval(2 * won.low - 1, 2 * won.high - 1, LEVEL, won.method)
    if len(values) >= FEW:
        return percentile_interval(resampled_means(values))
    from scipy.stats import t  # takes half a second to load

    half = float(t.ppf((1 + LEVEL) / 2, max(len(values) - 1, 1)) * values.std(ddof=min(len(values) - 1, 1)))
    half /= len(values) ** 0.5
    return Interval(float(values.mean()) - half, float(values.mean()) + half, LEVEL, "Student")


def return_line(metrics: Mapping[str, Any]) -> str:
    """The metrics of a split on one line."""
    if metrics["return"] is None:
        return "no episode ended"
    low, high = metrics["return_interval"]
    span = "" if low is None else f" ({wording.number(low)} to {wording.number(high)})"
    episodes, steps = several(metrics["episodes"], "episode"), several(metrics["steps"], "step")
    return f"return {wording.number(metrics['return'])}{span}, {episodes}, {steps}"


def network_line(metrics: Mapping[str, Any]) -> str:
    """Which network a run that learned from rewards saved, and which network each of its returns belongs to."""
    best, last = metrics["best_epoch"], metrics["epochs"]
    kept = f"the network after epoch {best} of {last} is saved; val and test are its returns"
    line = f"{kept}; train is the return of the last epoch, with exploration"
    return "\n".join(filter(None, (line, growth_note(last))))


def growth_note(epochs: int) -> str:
    """What a single evaluation does not show; empty after several."""
    if epochs > 1:
        return ""
    return "After a single evaluation, nothing shows whether the return still grows. Train for longer, with --minutes."


def split_seed(seed: int, split: str) -> int:
    """The seed of a split's environments."""
    return hash_key(seed, SEEDS[split])


def play_episodes(
    module: nn.Module,
    source: str,
    config: ControlConfig,
    episodes: int,
    seed: int,
    *,
    watch: Callable[[int, Environment, float], None] | None = None,
    at_once: int | None = None,
) -> Played:
    """Play `episodes` whole episodes, number k from hash(seed, k), always with the action of the largest value.

    They are played in parallel, each once: taking those that end first would favor short ones. `watch` gets the number
    of each episode, its environment and its return so far, at the start and after each step. `config` has no open
    fields. The network is put into eval mode and back.
    """
    training = module.training
    at_once = at_once or (64 if min(_reused(source, 1)[0].game.shape[:2]) <= SMALL_SIDE else 16)
    environments = _reused(source, min(at_once, episodes))
    module.eval()
    parts = []
    try:
        for begin in range(0, episodes, at_once):
            numbers = range(begin, min(begin + at_once, episodes))
            parts.append(_play_together(module, environments[: len(numbers)], numbers, config, seed, watch))
    finally:
        module.train(training)
    errors = np.concatenate([part[4] for part in parts])
    returns, steps, truncated = (np.concatenate([part[k] for part in parts]) for k in range(3))
    actions = np.sum([part[3] for part in parts], axis=0)
    return Played(returns, steps, truncated, actions, float(errors.mean()) if len(errors) else None)


_REUSED: dict[str, list[Environment]] = {}


def _reused(source: str, count: int) -> list[Environment]:
    """Environments of `source`, which are reused from the last call: an emulator takes a quarter of a second to make,
    and a seed restarts it."""
    if not (_REUSED.get(source) and _REUSED[source][0].copies):  # another environment may have the name now
        _REUSED.clear()
    kept, make = _REUSED.setdefault(source, []), opener(source)
    kept += [make() for _ in range(count - len(kept))]
    return kept[:count]


def _play_together(
    module: nn.Module,
    environments: list[Environment],
    numbers: range,
    config: ControlConfig,
    seed: int,
    watch: Callable[[int, Environment, float], None] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    game, count = environments[0].game, len(environments)
    assert config.stack is not None and config.limit is not None, "decided before"
    channels = game.shape[-1]
    stacked = np.zeros((count, *game.shape[:2], channels * config.stack), np.uint8)
    for k, (environment, number) in enumerate(zip(environments, numbers, strict=True)):
        stacked[k, ..., -channels:] = environment.reset(hash_key(seed, number))
        if watch is not None:
            watch(number, environment, 0.0)
    returns, steps, truncated = np.zeros(count), np.zeros(count, np.int64), np.zeros(count, bool)
    actions, errors = np.zeros(len(game.actions), np.int64), list[float]()
    going, before = list(range(count)), dict[int, tuple[float, float]]()
    while going:
        values = action_values(module, stacked[going])
        for row, k in enumerate(list(going)):
            best = float(values[row].max())
            if k in before:  # the previous step led here
                value, reward = before[k]
                errors.append((reward + config.discount * best - value) ** 2)
            action = int(values[row].argmax())
            step = environments[k].step(action)
            learned = float(np.sign(step.reward)) if config.clip_rewards else step.reward
            before[k] = (best, learned)
            actions[action] += 1
            returns[k] += step.reward
            steps[k] += 1
            stacked[k, ..., :-channels] = stacked[k, ..., channels:]
            stacked[k, ..., -channels:] = step.frame
            truncated[k] = not step.terminated and (step.truncated or steps[k] >= config.limit)
            if watch is not None:
                watch(numbers[k], environments[k], returns[k])
            if step.terminated:
                errors.append((learned - best) ** 2)
            if step.terminated or truncated[k]:
                going.remove(k)
    return returns, steps, truncated, actions, np.array(errors)
