"""Parallelised Q-network (Gallici et al. 2024): many environments at once, lambda returns, layer normalization; no
replay buffer and no target network."""

from __future__ import annotations

import numpy as np
import torch

from striate.data.counter_random import hash_key
from striate.data.environments.vectorized import Episode
from striate.tasks.control.learner import Advance, Learner
from striate.tasks.control.network import action_values, as_input
from striate.tasks.control.targets import lambda_returns

_SHUFFLE = 2


class Pqn(Learner):
    """Alternates a rollout of every environment and `passes` over it in shuffled minibatches; the learning rate falls
    to 0 linearly."""

    def make_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.RAdam(self.module.parameters(), lr=self.lr)

    def advance(self) -> Advance:
        """Play a rollout of `rollout` × N steps, fewer at the end, and learn from it."""
        first = self.step
        states, actions, targets, episodes = self._rollout()
        self.set_lr(self.lr * max(1.0 - self.step / self.total, 0.0))
        count, losses = len(states), 0.0
        before = self.updates
        device = next(self.module.parameters()).device
        x, chosen, wanted = as_input(states, device), torch.from_numpy(actions).to(device), targets.to(device)
        for number in range(self.config.passes):
            rng = np.random.default_rng(hash_key(self.seed, _SHUFFLE, first, number))
            order = torch.from_numpy(rng.permutation(count)).to(device)
            for part in order.split(self.batch):
                values = self.module(x[part]).gather(1, chosen[part, None])[:, 0]
                losses += self.minimize(0.5 * (values - wanted[part]).square().mean())
        return Advance(self.step - first, self.updates - before, episodes, losses)

    def _rollout(self) -> tuple[np.ndarray, np.ndarray, torch.Tensor, list[Episode]]:
        """States (T·N, H, W, C), actions (T·N,), returns (T·N,) and the episodes that ended."""
        played, config, n = self.environments, self.config, len(self.environments)
        states, chosen, rewards, terminated, over, values = [], [], [], [], [], []
        episodes: list[Episode] = []
        now = action_values(self.module, played.stacked)
        for t in range(self.rounds(config.rollout)):
            actions = self.choose(now)
            states.append(played.stacked.copy())
            steps = played.step(actions)
            self.step += n
            now = action_values(self.module, played.stacked)
            values.append(now.max(axis=1))
            if steps.truncated.any():
                ended = played.ended(states[t], steps)[steps.truncated]
                values[t][steps.truncated] = action_values(self.module, ended).max(axis=1)
            chosen.append(actions)
            rewards.append(self.rewards_of(steps.rewards))
            terminated.append(steps.terminated)
            over.append(steps.over)
            episodes += steps.episodes
        returns = lambda_returns(
            torch.from_numpy(np.stack(rewards)),
            torch.from_numpy(np.stack(values)),
            torch.from_numpy(np.stack(terminated)),
            torch.from_numpy(np.stack(over)),
            config.discount,
            config.trace,
        )
        return np.concatenate(states), np.concatenate(chosen), returns.flatten(), episodes
