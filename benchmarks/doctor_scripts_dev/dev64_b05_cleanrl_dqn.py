# DQN in one file, after CleanRL; the environment is a small grid world with gymnasium's interface.
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 3000
    learning_rate: float = 1e-3
    buffer_size: int = 2000
    gamma: float = 0.95
    target_network_frequency: int = 60
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 200
    train_frequency: int = 2


class GridEnv:
    """Walk to the lower right corner of a 5 x 5 grid: 1 for arriving, -0.02 for each other step, 40 steps at most."""

    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))
    n_obs, n_actions, size, limit = 2, 4, 5, 40

    def _obs(self):
        return np.array([self.row, self.col], dtype=np.float32) / (self.size - 1) * 2 - 1

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        cell = int(self.rng.integers(self.size * self.size - 1))  # every cell but the goal
        self.row, self.col = divmod(cell, self.size)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        d_row, d_col = self.moves[action]
        self.row = min(max(self.row + d_row, 0), self.size - 1)
        self.col = min(max(self.col + d_col, 0), self.size - 1)
        self.t += 1
        terminated = self.row == self.size - 1 and self.col == self.size - 1
        truncated = not terminated and self.t >= self.limit
        return self._obs(), 1.0 if terminated else -0.02, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, n_obs):
        self.observations = np.zeros((size, n_obs), dtype=np.float32)
        self.next_observations = np.zeros((size, n_obs), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        self.pos += 1
        if self.pos == self.size:
            self.pos, self.full = 0, True

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        fields = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return tuple(torch.from_numpy(field[idx]) for field in fields)


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(env.n_obs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, env.n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e: float, end_e: float, duration: int, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def evaluate(q_network, episodes=30, seed=1000):
    env = GridEnv()
    env.reset(seed=seed)
    returns = []
    for _ in range(episodes):
        obs, _ = env.reset()
        total, done = 0.0, False
        while not done:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, reward, terminated, truncated, _ = env.step(action)
            total, done = total + reward, terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def main():
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = GridEnv()
    q_network, target_network = QNetwork(env), QNetwork(env)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, env.n_obs)
    start_time = time.time()

    obs, _ = env.reset(seed=args.seed)
    for global_step in range(args.total_timesteps):
        duration = int(args.exploration_fraction * args.total_timesteps)
        epsilon = linear_schedule(args.start_e, args.end_e, duration, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 500 == 0:
            sps = int(global_step / (time.time() - start_time))
            print(f"step {global_step + 1} epsilon {epsilon:.2f} SPS {sps} return {evaluate(q_network):.3f}")


if __name__ == "__main__":
    main()
