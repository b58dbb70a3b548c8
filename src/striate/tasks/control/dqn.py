"""Deep Q-network (Mnih et al. 2015), with double Q-learning, dueling values and returns of n steps (Hessel et al. 2018
compare them)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import smooth_l1_loss

from striate.data.counter_random import hash_key
from striate.data.environments.vectorized import Episode
from striate.tasks.control.learner import Advance, Learner
from striate.tasks.control.network import action_values, as_input
from striate.tasks.control.replay import Replay
from striate.tasks.control.targets import n_step_targets, next_values

_SAMPLE = 3
_TOGETHER = 32
MOST = 1_000_000
"""Largest number of steps in the replay buffer, as published."""


@dataclass
class Dqn(Learner):
    """Each step of the environments goes into the replay buffer, from which each update draws a batch."""

    target: nn.Module = field(init=False)
    replay: Replay = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        played, config = self.environments, self.config
        self.target = copy.deepcopy(self.module).requires_grad_(False)
        self.replay = Replay(
            played.game.shape, len(played), played.stack, config.n_step, config.replay_mb, min(self.total, MOST)
        )

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.module.parameters(), lr=self.lr, eps=1.5e-4)

    def advance(self) -> Advance:
        """Play some steps in each environment, with an update after every `update_every` steps."""
        first, before, losses = self.step, self.updates, 0.0
        episodes: list[Episode] = []
        for _ in range(self.rounds(_TOGETHER)):
            played = self.environments
            frames = played.frames.copy()
            actions = self.choose(action_values(self.module, played.stacked))
            steps = played.step(actions)
            self.replay.add(frames, actions, steps)
            owed = self.step // self.config.update_every
            self.step += len(played)
            episodes += steps.episodes
            if self.step > self.config.learn_after and len(self.replay):
                for _ in range(self.step // self.config.update_every - owed):
                    losses += self.update()
        return Advance(self.step - first, self.updates - before, episodes, losses)

    def update(self) -> float:
        """One update on a batch; returns its loss."""
        rng = np.random.default_rng(hash_key(self.seed, _SAMPLE, self.updates))
        sampled, device = self.replay.sample(self.batch, rng), next(self.module.parameters()).device
        after = as_input(sampled.after, device)
        with torch.no_grad():
            double = self.config.double
            ahead = next_values(self.module(after) if double else after, self.target(after), double=double)
            rewards = torch.from_numpy(self.rewards_of(sampled.rewards)).to(device)
            terminated = torch.from_numpy(sampled.terminated).to(device)
            wanted = n_step_targets(rewards, terminated, ahead, self.config.discount)
        actions = torch.from_numpy(sampled.actions).to(device)
        values = self.module(as_input(sampled.before, device)).gather(1, actions[:, None])[:, 0]
        loss = self.minimize(smooth_l1_loss(values, wanted))
        if self.updates % self.config.target_every == 0:
            self.target.load_state_dict(self.module.state_dict())
        return loss

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"target": self.target.state_dict(), "replay": self.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.target.load_state_dict(state["target"])
        self.replay.load_state_dict(state["replay"])
