"""The loop that learns from rewards: play and learn, a stretch at a time; what it yields is read by who wants to."""

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
    """All that changes: the learner, what was measured of each stretch, and the sums of the one in progress.

    `elapsed`: seconds since the run was asked for, without pauses. `returns` and `lengths`: of the training episodes
    that ended in this stretch.
    """

    learner: Learner
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    loss: float = 0.0
    updates: int = 0
    seconds: float = 0.0
    began: int = 0
    elapsed: float = 0.0

    _KEPT = ("history", "best", "returns", "lengths", "loss", "updates", "seconds", "began", "elapsed")

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, the network's apart: `model`."""
        kept = {name: getattr(self, name) for name in self._KEPT}
        kept |= {name: list(kept[name]) for name in ("history", "returns", "lengths")}
        chance = torch.get_rng_state()  # of layers that have any
        return {
            "model": self.learner.module.state_dict(),
            "learner": self.learner.state_dict(),
            "random": chance,
            **kept,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Become what `to_dict` gave."""
        self.learner.module.load_state_dict(saved["model"])
        self.learner.load_state_dict(saved["learner"])
        torch.set_rng_state(saved["random"])
        elapsed = self.elapsed
        for name in self._KEPT:
            setattr(self, name, saved[name])
        self.elapsed += elapsed

    @property
    def over(self) -> bool:
        return self.learner.step >= self.learner.total and self.began == self.learner.step


@dataclass(frozen=True)
class Advanced:
    """Some steps were played and learned from."""

    step: int
    total: int
    loss: float | None


@dataclass(frozen=True)
class StretchDone:
    """A stretch is over; `row` is that of metrics.csv; `best` where no earlier one was better in validation."""

    row: dict[str, Any]
    best: bool
    finished: bool


RewardEvent = Advanced | StretchDone


def reward_events(state: RewardState, config: Config) -> Iterator[RewardEvent]:
    """Play and learn from `state` on until the steps, or the minutes, are over. Between two events the state is whole.

    Raises NonFiniteLoss.
    """
    learner, control = state.learner, config.task.control
    assert control.stretch is not None, "decided before"
    states = held_out_states(config)
    while not state.over:
        while learner.step < min(state.began + control.stretch, learner.total):
            started = perf_counter()
            advance = learner.advance()
            _count(state, advance, perf_counter() - started)
            yield Advanced(learner.step, learner.total, advance.loss / advance.updates if advance.updates else None)
            if out_of_time(state, config):
                learner.total = learner.step
        yield close_stretch(state, config, states)


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


def close_stretch(state: RewardState, config: Config, states: np.ndarray) -> StretchDone:
    """Play validation episodes, write the row, begin the next stretch; with minutes, count anew how many steps fit."""
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
    return StretchDone(row, best or config.keep == "last", state.over)


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
    """States (S, H, W, C·stack) that random actions lead to, the same in every run of a game: the mean of the largest
    value in them shows how what the network expects grows (Mnih et al. 2015, figure 2)."""
    control, source = config.task.control, str(config.data.source)
    small = min(open_environment(source).game.shape[:2]) <= SMALL_SIDE
    count = _HELD_OUT if small else _HELD_OUT_LARGE
    played = Environments(source, count, split_seed(0, "states"), control.stack, control.limit)
    played.reset()
    rng = np.random.default_rng(0)
    for _ in range(_RANDOM_STEPS):
        played.step(rng.integers(0, len(played.game.actions), count))
    return played.stacked.copy()
