"""The base class of algorithms: environments, a network, an optimizer, and a count of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from striate.data.counter_random import hash_key
from striate.data.environments.vectorized import Environments, Episode
from striate.tasks.control.config import ControlConfig

_ACTIONS = 1  # what random numbers are for, besides the seed and the step


@dataclass
class Advance:
    """What one call of `Learner.advance` did."""

    steps: int
    """Number of environment steps."""
    updates: int
    """Number of updates."""
    episodes: list[Episode]
    """The episodes that ended."""
    loss: float
    """Sum of the loss over the updates."""


@dataclass
class Learner(ABC):
    """An algorithm in progress. All randomness follows from `seed` and `step`, so that no generator has a state."""

    module: nn.Module
    """The network that learns."""
    environments: Environments
    """The environments that it plays in."""
    config: ControlConfig
    """Configuration of the algorithm."""
    lr: float
    """Peak learning rate."""
    batch: int
    """Number of samples of an update."""
    seed: int
    """Seed of all randomness."""
    total: int
    """Number of steps of the whole training; schedules of exploration and learning rate are functions of `step /
    total`."""
    step: int = 0
    """Number of environment steps so far."""
    updates: int = 0
    """Number of updates so far."""
    optimizer: torch.optim.Optimizer = field(init=False)
    """The optimizer of the network's parameters."""

    def __post_init__(self) -> None:
        self.optimizer = self.make_optimizer()
        self.environments.reset()

    @abstractmethod
    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the network's parameters, as published with the algorithm."""

    @abstractmethod
    def advance(self) -> Advance:
        """Play and learn for the smallest number of steps after which the state can be saved."""

    def rounds(self, most: int) -> int:
        """The next number of steps of each environment: `most`, fewer at the end of training."""
        return max(1, min(most, -(-(self.total - self.step) // len(self.environments))))

    @property
    def explore(self) -> float:
        """The present share of random actions (epsilon)."""
        config = self.config
        done = min(self.step / (config.explore_until * self.total), 1.0)
        return config.explore_start + done * (config.explore_end - config.explore_start)

    def facts(self) -> dict[str, Any]:
        """Fields of metrics.json that only this algorithm has."""
        return {}

    def write_data(self, folder: Path) -> None:
        """After training, write data that other networks can be trained on into a run's folder."""
        del folder

    def choose(self, values_NA: np.ndarray) -> np.ndarray:
        """(N,) the best action of each, or, with probability `explore`, a random one (epsilon-greedy)."""
        rng = np.random.default_rng(hash_key(self.seed, _ACTIONS, self.step))
        chosen = values_NA.argmax(axis=1)
        random = rng.integers(0, values_NA.shape[1], len(chosen))
        return np.where(rng.random(len(chosen)) < self.explore, random, chosen)

    def rewards_of(self, rewards: np.ndarray) -> np.ndarray:
        """The rewards that the network learns from: as they are, or their signs."""
        clipped: np.ndarray = np.sign(rewards) if self.config.clip_rewards else rewards
        return clipped

    def minimize(self, loss: torch.Tensor) -> float:
        """One update; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip)
        self.optimizer.step()
        self.updates += 1
        return loss.item()

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next updates."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """The state, besides the network, from which training continues bit for bit."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "environments": self.environments.state_dict(),
            "step": self.step,
            "updates": self.updates,
            "total": self.total,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; the network has its weights already."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.environments.load_state_dict(state["environments"])
        self.step, self.updates, self.total = state["step"], state["updates"], state["total"]
