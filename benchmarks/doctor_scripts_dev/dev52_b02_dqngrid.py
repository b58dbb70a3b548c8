# DQN in a single file: docs and experiment results are left to the reader
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 6000
    learning_rate: float = 1e-3
    buffer_size: int = 6000
    gamma: float = 0.95
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class GridEnv:
    """Walk to a goal on a square board. Reward 1 for the goal, 0 elsewhere; cut off after 30 steps."""

    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]

    def __init__(self, size=6, max_steps=30, seed=0):
        self.size, self.max_steps = size, max_steps
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        delta = self.goal - self.pos
        return np.concatenate([delta, self.pos]).astype(np.float32) / (self.size - 1)

    def reset(self):
        self.t = 0
        self.pos = self.rng.integers(0, self.size, 2)
        self.goal = self.rng.integers(0, self.size, 2)
        while (self.goal == self.pos).all():
            self.goal = self.rng.integers(0, self.size, 2)
        return self._obs()

    def step(self, action):
        self.t += 1
        self.pos = np.clip(self.pos + np.array(self.moves[action]), 0, self.size - 1)
        terminated = bool((self.pos == self.goal).all())
        truncated = self.t >= self.max_steps and not terminated
        return self._obs(), float(terminated), terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.size, self.pos, self.full = size, 0, False
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.observations[i], self.next_observations[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, batch_size)
        arrays = self.observations, self.next_observations, self.actions, self.rewards, self.dones
        return [torch.as_tensor(a[idx]) for a in arrays]


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


@torch.no_grad()
def evaluate(network, episodes=100, seed=123):
    env = GridEnv(seed=seed)
    returns, lengths = [], []
    for _ in range(episodes):
        obs, over, total = env.reset(), False, 0.0
        while not over:
            action = int(network(torch.as_tensor(obs)).argmax())
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
        lengths.append(env.t)
    return float(np.mean(returns)), float(np.mean(lengths))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridEnv(seed=args.seed)
    q_network = QNetwork(4, len(env.moves))
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(4, len(env.moves))
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 4)

    obs = env.reset()
    episodic_return, recent = 0.0, []
    explore_steps = args.exploration_fraction * args.total_timesteps
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, explore_steps, global_step)
        if random.random() < epsilon:
            action = random.randrange(len(env.moves))
        else:
            with torch.no_grad():
                action = int(q_network(torch.as_tensor(obs)).argmax())
        next_obs, reward, terminated, truncated = env.step(action)
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            recent.append(episodic_return)
            obs, episodic_return = env.reset(), 0.0

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
            loss = F.mse_loss(td_target, old_val)

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if global_step % 1000 == 999:
            print(f"global_step={global_step + 1}, episodic_return={np.mean(recent[-50:]):.2f}")

    mean_return, mean_length = evaluate(q_network)
    print(f"eval: return {mean_return:.3f}, length {mean_length:.1f}")
