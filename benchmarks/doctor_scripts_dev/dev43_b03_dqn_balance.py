# Deep Q-learning on a small balancing task, as one file (style: https://docs.cleanrl.dev/rl-algorithms/dqn/)
import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 8000
    learning_rate: float = 1e-3
    buffer_size: int = 6000
    gamma: float = 0.95
    tau: float = 1.0
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 400
    train_frequency: int = 2


class BalanceEnv:
    """A cart on top of a hill, pushed to the left or right: 1 for each step on it, 60 steps at most (gymnasium's API)."""

    max_steps = 60

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def _get_obs(self):
        return self.state.copy()

    def reset(self):
        self.state = self.rng.uniform(-0.1, 0.1, size=2).astype(np.float32)
        self.elapsed = 0
        return self._get_obs(), {}

    def step(self, action):
        acceleration = 1.25 * self.state[0] + (2 * action - 1) + 0.1 * self.rng.normal()
        self.state[1] += 0.2 * acceleration
        self.state[0] += 0.2 * self.state[1]
        self.elapsed += 1
        terminated = bool(abs(self.state[0]) > 1.0)
        truncated = self.elapsed >= self.max_steps
        return self._get_obs(), 1.0, terminated, truncated, {}


class ReplayBufferSamples(NamedTuple):
    observations: torch.Tensor
    next_observations: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    dones: torch.Tensor


class ReplayBuffer:
    def __init__(self, size):
        self.size, self.pos, self.full = size, 0, False
        self.observations = np.zeros((size, 2), dtype=np.float32)
        self.next_observations = np.zeros((size, 2), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos], self.next_observations[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return ReplayBufferSamples(*(torch.from_numpy(array[index]) for array in arrays))


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e: float, end_e: float, duration: float, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def greedy_action(q_network, obs):
    with torch.no_grad():
        return int(q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))


def evaluate(q_network, seed, episodes=20):
    env, lengths = BalanceEnv(seed), []
    for _ in range(episodes):
        (obs, _), done, steps = env.reset(), False, 0
        while not done:
            obs, _, terminated, truncated, _ = env.step(greedy_action(q_network, obs))
            done, steps = terminated or truncated, steps + 1
        lengths.append(steps)
    return float(np.mean(lengths))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = BalanceEnv(args.seed)
    q_network = QNetwork()
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size)
    print(f"untrained: {evaluate(q_network, seed=100):.1f} steps an episode")

    episodic_returns, episodic_return = [], 0.0
    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        action = random.randrange(2) if random.random() < epsilon else greedy_action(q_network, obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            episodic_returns.append(episodic_return)
            episodic_return = 0.0
            obs, _ = env.reset()

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                data = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(data.next_observations).max(dim=1)
                    td_target = data.rewards + args.gamma * target_max * (1 - data.dones)
                old_val = q_network(data.observations).gather(1, data.actions).squeeze(1)
                loss = F.mse_loss(td_target, old_val)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if global_step % args.target_network_frequency == 0:
                for t_param, q_param in zip(target_network.parameters(), q_network.parameters()):
                    t_param.data.copy_(args.tau * q_param.data + (1.0 - args.tau) * t_param.data)
        if (global_step + 1) % 1000 == 0:
            recent = np.mean(episodic_returns[-20:])
            print(f"step {global_step + 1}: return {recent:.1f}, epsilon {epsilon:.2f}, loss {loss.item():.3f}")
    print(f"trained: {evaluate(q_network, seed=100):.1f} steps an episode of at most {BalanceEnv.max_steps}")
