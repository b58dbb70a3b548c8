# DQN in a single file; the environment is a broom balanced on a hand
import random
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 5000
    learning_rate: float = 1e-3
    buffer_size: int = 5000
    gamma: float = 0.97
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.4
    learning_starts: int = 500


class BroomEnv:
    """Two actions push to the left or the right; the broom falls beyond 0.4 rad. One point for each step."""

    max_episode_steps = 50

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def _observation(self):
        return np.array([self.angle / 0.4, self.speed], dtype=np.float32)

    def reset(self):
        self.elapsed = 0
        self.angle, self.speed = self.rng.uniform(-0.1, 0.1, size=2)
        return self._observation()

    def step(self, action):
        push = 4.0 if action == 1 else -4.0
        self.speed += 0.05 * (6.0 * np.sin(self.angle) + push) + 0.02 * self.rng.normal()
        self.angle += 0.05 * self.speed
        self.elapsed += 1
        terminated = bool(abs(self.angle) > 0.4)
        truncated = self.elapsed >= self.max_episode_steps and not terminated
        return self._observation(), 1.0, terminated, truncated


Batch = namedtuple("Batch", "observations next_observations actions rewards dones")


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.size, self.pos, self.full = size, 0, False
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)

    def add(self, obs, next_obs, action, reward, done):
        for column, value in zip(self._columns(), (obs, next_obs, action, reward, done)):
            column[self.pos] = value
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        return Batch(*(torch.as_tensor(column[index]) for column in self._columns()))

    def _columns(self):
        return self.observations, self.next_observations, self.actions, self.rewards, self.dones


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def greedy(network, obs):
    with torch.no_grad():
        return int(network(torch.as_tensor(obs).unsqueeze(0)).argmax(dim=1))


def evaluate(network, seed, episodes=20):
    env, lengths, values = BroomEnv(seed), [], []
    for _ in range(episodes):
        obs, over, length = env.reset(), False, 0
        with torch.no_grad():
            values.append(network(torch.as_tensor(obs)).max().item())
        while not over:
            obs, _, fallen, timeout = env.step(greedy(network, obs))
            over, length = fallen or timeout, length + 1
        lengths.append(length)
    return float(np.mean(lengths)), float(np.mean(values))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = BroomEnv(args.seed)
    q_network = QNetwork(2, 2)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(2, 2)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 2)
    exploration_steps = args.exploration_fraction * args.total_timesteps
    episodic_return, returns = 0.0, []

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step)
        action = random.randrange(2) if random.random() < epsilon else greedy(q_network, obs)

        next_obs, reward, terminated, truncated = env.step(action)
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            returns.append(episodic_return)
            obs, episodic_return = env.reset(), 0.0

        if global_step >= args.learning_starts:
            data = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(data.next_observations).max(dim=1).values
                td_target = data.rewards + args.gamma * target_max * (1 - data.dones)
            old_val = q_network(data.observations).gather(1, data.actions.unsqueeze(1)).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())
            if global_step % 500 == 0:
                print(f"step={global_step} return={np.mean(returns[-20:]):.1f} loss={loss.item():.3f}")

    length, value = evaluate(q_network, args.seed + 100)
    print(f"greedy: {length:.1f} of {BroomEnv.max_episode_steps} steps")
    print(f"value of a start: {value:.1f} (balancing for ever is worth {1 / (1 - args.gamma):.1f})")
