"""DQN in one file (after CleanRL), on a grid whose goal is in a corner."""

import argparse
import random
from collections import namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

Batch = namedtuple("Batch", "observations next_observations actions rewards dones")


class GridEnv:
    """Walk to the corner: 1 at the goal, -0.02 for each other step, cut off after `max_steps`."""
    MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, size=6, max_steps=40, seed=0):
        self.size, self.max_steps = size, max_steps
        self.rng = np.random.RandomState(seed)
        self.obs = np.zeros(2, dtype=np.float32)
        self.goal = (size - 1, size - 1)

    def _observe(self):
        self.obs[0] = 2.0 * self.row / (self.size - 1) - 1.0
        self.obs[1] = 2.0 * self.col / (self.size - 1) - 1.0
        return self.obs.copy()

    def reset(self):
        self.steps = 0
        self.row, self.col = self.goal
        while (self.row, self.col) == self.goal:
            self.row, self.col = self.rng.randint(0, self.size, 2).tolist()
        return self._observe()

    def step(self, action):
        down, right = self.MOVES[action]
        self.row = min(max(self.row + down, 0), self.size - 1)
        self.col = min(max(self.col + right, 0), self.size - 1)
        self.steps += 1
        terminated = (self.row, self.col) == self.goal
        truncated = not terminated and self.steps >= self.max_steps
        reward = 1.0 if terminated else -0.02
        return self._observe(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, capacity, obs_dim, seed):
        self.observations = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.actions = np.zeros((capacity, 1), dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.dones = np.zeros(capacity, dtype=np.float32)
        self.pos = 0
        self.rng = np.random.RandomState(seed)

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos % len(self.rewards)
        self.observations[i] = obs
        self.next_observations[i] = next_obs
        self.actions[i] = action
        self.rewards[i] = reward
        self.dones[i] = done
        self.pos += 1

    def sample(self, batch_size):
        index = self.rng.randint(0, min(self.pos, len(self.rewards)), batch_size)
        columns = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return Batch(*(torch.from_numpy(column[index]) for column in columns))


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def evaluate(q_network, episodes, seed):
    env = GridEnv(seed=seed)
    returns = []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = int(q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--target-network-frequency", type=int, default=100)
    return parser.parse_args()


def main():
    args = parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = GridEnv(seed=args.seed)
    q_network = QNetwork(2, 4)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(2, 4)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.total_timesteps, 2, args.seed)
    episodic_return, recent = 0.0, []
    obs = env.reset()
    duration = 0.5 * args.total_timesteps
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(1.0, 0.05, duration, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episodic_return += reward
        obs = next_obs
        if terminated or truncated:
            recent.append(episodic_return)
            episodic_return, obs = 0.0, env.reset()

        if global_step > 300 and global_step % 2 == 0:
            data = rb.sample(64)
            with torch.no_grad():
                target_max = target_network(data.next_observations).max(dim=1).values
                td_target = data.rewards + args.gamma * target_max * (1 - data.dones)
            old_val = q_network(data.observations).gather(1, data.actions).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if (global_step + 1) % 1000 == 0:
            test_return = evaluate(q_network, 30, seed=1000)
            mean = float(np.mean(recent[-20:])) if recent else float("nan")
            print(f"step {global_step + 1}: return {mean:.3f}, greedy {test_return:.3f}, epsilon {epsilon:.2f}")


if __name__ == "__main__":
    main()
