"""The loop that learns from rewards: plays and learns, one epoch at a time, and yields events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch

from striate.data.environments.open_environment import open_environment
from striate.data.environments.vectorized import Environments
from striate.errors import NonFiniteLoss
from striate.tasks.control.learner import Advance, Learner
from striate.tasks.control.network import SMALL_SIDE, action_values
from striate.tasks.control.play import mean_interval, play_episodes, split_seed
from striate.training.config import Config
from striate.training.rewards.decide import seconds_for_training

_HELD_OUT, _HELD_OUT_LARGE = 128, 16
_RANDOM_STEPS = 30


@dataclass
class RewardState:
    """Everything that changes during a training from rewards."""

    learner: Learner
    """The algorithm, with its network."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per epoch."""
    best: float | None = None
    """The best mean return in validation. None before the first validation."""
    returns: list[float] = field(default_factory=list)
    """Returns of the training episodes that ended in this epoch."""
    lengths: list[int] = field(default_factory=list)
    """Steps of these episodes."""
    loss: float = 0.0
    """Sum of the losses of this epoch."""
    updates: int = 0
    """Number of updates in this epoch."""
    seconds: float = 0.0
    """Seconds of playing and learning in this epoch."""
    began: int = 0
    """Step at which this epoch began."""
    elapsed: float = 0.0
    """Seconds since the request, without pauses between an interruption and a resume."""

    _SAVED = ("history", "best", "returns", "lengths", "loss", "updates", "seconds", "began", "elapsed")

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, with the weights of the network under `model`."""
        values = {name: getattr(self, name) for name in self._SAVED}
        values |= {name: list(values[name]) for name in ("history", "returns", "lengths")}
        chance = torch.get_rng_state()  # of layers that have any
        return {
            "model": self.learner.module.state_dict(),
            "learner": self.learner.state_dict(),
            "random": chance,
            **values,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Load what `to_dict` returned."""
        self.learner.module.load_state_dict(saved["model"])
        self.learner.load_state_dict(saved["learner"])
        torch.set_rng_state(saved["random"])
        elapsed = self.elapsed
        for name in self._SAVED:
            setattr(self, name, saved[name])
        self.elapsed += elapsed

    @property
    def over(self) -> bool:
        return self.learner.step >= self.learner.total and self.began == self.learner.step


@dataclass(frozen=True)
class Advanced:
    """Some steps were played and learned from."""

    step: int
    """Steps done."""
    total: int
    """Planned steps."""
    loss: float | None
    """Mean loss of the updates. None: no update."""


@dataclass(frozen=True)
class RewardEpochDone:
    """An epoch is over."""

    row: dict[str, Any]
    """Its row of metrics.csv."""
    best: bool
    """Whether this epoch's network is the result so far: no earlier one is better in validation, or `keep` is
    "last"."""
    finished: bool
    """Whether training ends here."""


RewardEvent = Advanced | RewardEpochDone


def reward_events(state: RewardState, config: Config) -> Iterator[RewardEvent]:
    """Play and learn from `state` on until the steps, or the minutes, are over. Between two events the state is
    complete. Raises NonFiniteLoss."""
    learner, control = state.learner, config.task.control
    assert control.epoch_steps is not None, "decided before"
    states = held_out_states(config)
    while not state.over:
        while learner.step < min(state.began + control.epoch_steps, learner.total):
            started = perf_counter()
            advance = learner.advance()
            _count(state, advance, perf_counter() - started)
            yield Advanced(learner.step, learner.total, advance.loss / advance.updates if advance.updates else None)
            if out_of_time(state, config):
                learner.total = learner.step
        yield close_epoch(state, config, states)


def _count(state: RewardState, advance: Advance, seconds: float) -> None:
    if not np.isfinite(advance.loss):
        raise NonFiniteLoss(
            f"step {state.learner.step:,}", f"a loss of {advance.loss}", "a finite loss", "a lower rate: --lr",
            step=state.learner.step, lr=state.learner.optimizer.param_groups[0]["lr"],
        )  # fmt: skip
    state.returns += [episode.rewards for episode in advance.episodes]
    state.lengths += [episode.steps for episode in advance.episodes]
    state.loss += advance.loss
    state.updates += advance.updates
    state.seconds += seconds


def out_of_time(state: RewardState, config: Config) -> bool:
    """Whether the minutes of the request are over."""
    limit = seconds_for_training(config)
    return limit is not None and state.elapsed >= limit


def close_epoch(state: RewardState, config: Config, states: np.ndarray) -> RewardEpochDone:
    """Play validation episodes, append the row, begin the next epoch; with minutes, estimate again how many steps
    fit."""
    learner, control = state.learner, config.task.control
    source, seed = str(config.data.source), split_seed(config.seed, "val")
    val = play_episodes(learner.module, source, control, control.val_episodes, seed)
    interval, played = val.interval, learner.step - state.began
    train = _summary(np.array(state.returns), "train")
    row = {
        "epoch": len(state.history) + 1,
        "step": learner.step,
        "updates": learner.updates,
        "lr": learner.optimizer.param_groups[0]["lr"],
        "explore": round(learner.explore, 6),
        "train_loss": state.loss / state.updates if state.updates else None,
        **train,
        "train_steps": int(sum(state.lengths)),
        "val_return": float(val.returns.mean()),
        "val_return_low": interval.low,
        "val_return_high": interval.high,
        "val_episodes": len(val.returns),
        "val_steps": int(val.steps.sum()),
        "value": float(action_values(learner.module, states).max(axis=1).mean()),
        "seconds": round(state.seconds, 4),
        "steps_per_second": round(played / state.seconds, 1) if state.seconds else None,
    }
    best = state.best is None or row["val_return"] >= state.best
    state.best = row["val_return"] if best else state.best
    state.history.append(row)
    state.returns, state.lengths, state.loss, state.updates, state.seconds = [], [], 0.0, 0, 0.0
    state.began = learner.step
    _fit_into_minutes(state, config)
    return RewardEpochDone(row, best or config.keep == "last", state.over)


def _summary(returns: np.ndarray, split: str) -> dict[str, Any]:
    """Mean return and its interval; None where no episode ended."""
    interval = mean_interval(returns) if len(returns) > 1 else None
    return {
        f"{split}_return": float(returns.mean()) if len(returns) else None,
        f"{split}_return_low": interval.low if interval else None,
        f"{split}_return_high": interval.high if interval else None,
        f"{split}_episodes": len(returns),
    }


def _fit_into_minutes(state: RewardState, config: Config) -> None:
    limit, learner = seconds_for_training(config), state.learner
    if limit is None or learner.step >= learner.total:
        return
    speed = learner.step / max(state.elapsed, 1e-9)
    learner.total = learner.step + max(int(speed * (limit - state.elapsed)), 1)


def held_out_states(config: Config) -> np.ndarray:
    """States (S, H, W, C·stack) that random actions lead to, the same in every run of a game. The mean of the largest
    action value in them shows how the network's expectation grows (Mnih et al. 2015, figure 2)."""
    control, source = config.task.control, str(config.data.source)
    small = min(open_environment(source).game.shape[:2]) <= SMALL_SIDE
    count = _HELD_OUT if small else _HELD_OUT_LARGE
    played = Environments(source, count, split_seed(0, "states"), control.stack, control.limit)
    played.reset()
    rng = np.random.default_rng(0)
    for _ in range(_RANDOM_STEPS):
        played.step(rng.integers(0, len(played.game.actions), count))
    return played.stacked.copy()
