# DQN in one file on a windy grid world with holes
import random
from collections import deque
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
    buffer_size: int = 5000
    gamma: float = 0.95
    target_network_frequency: int = 150
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 400
    train_frequency: int = 2


class WindyGrid:
    """5 x 5 cells; the goal pays 1, a hole costs 1, each step a little; now and then the wind chooses the move."""

    MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
    GOAL, HOLES, SIZE, LIMIT = (4, 4), {(1, 3), (2, 1), (4, 2)}, 5, 40

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        cells = [(r, c) for r in range(self.SIZE) for c in range(self.SIZE)]
        self.starts = [cell for cell in cells if cell != self.GOAL and cell not in self.HOLES]

    def observe(self):
        obs = np.zeros(self.SIZE**2, dtype=np.float32)
        obs[self.cell[0] * self.SIZE + self.cell[1]] = 1.0
        return obs

    def reset(self):
        self.cell, self.steps = self.starts[self.rng.integers(len(self.starts))], 0
        return self.observe(), {}

    def step(self, action):
        if self.rng.random() < 0.05:
            action = int(self.rng.integers(4))
        row, col = (min(max(p + d, 0), self.SIZE - 1) for p, d in zip(self.cell, self.MOVES[action]))
        self.cell, self.steps = (row, col), self.steps + 1
        terminated = self.cell == self.GOAL or self.cell in self.HOLES
        reward = -0.03 if not terminated else 1.0 if self.cell == self.GOAL else -1.0
        return self.observe(), reward, terminated, not terminated and self.steps >= self.LIMIT, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs, self.next_obs = np.zeros((size, obs_dim), np.float32), np.zeros((size, obs_dim), np.float32)
        self.actions, self.rewards = np.zeros(size, np.int64), np.zeros(size, np.float32)
        self.dones, self.size, self.count = np.zeros(size, np.float32), size, 0

    def add(self, obs, next_obs, action, reward, done):
        i = self.count % self.size
        self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.dones[i] = obs, next_obs, action, reward, done
        self.count += 1

    def sample(self, batch_size):
        idx = np.random.randint(0, min(self.count, self.size), size=batch_size)
        arrays = self.obs, self.next_obs, self.actions, self.rewards, self.dones
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
    return max((end_e - start_e) / duration * t + start_e, end_e)


def greedy(q_network, obs):
    with torch.no_grad():
        return int(q_network(torch.as_tensor(obs).unsqueeze(0)).argmax(dim=1))


def evaluate(q_network, episodes=30):
    env, returns = WindyGrid(seed=12345), []
    for _ in range(episodes):
        obs, _ = env.reset()
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(greedy(q_network, obs))
            total, over = total + reward, terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = WindyGrid(args.seed)
    q_network, target_network = QNetwork(25, 4), QNetwork(25, 4)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 25)

    obs, _ = env.reset()
    episode_return, recent = 0.0, deque(maxlen=50)
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(
            args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step
        )
        action = random.randrange(4) if random.random() < epsilon else greedy(q_network, obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episode_return += reward
        obs = next_obs
        if terminated or truncated:
            recent.append(episode_return)
            episode_return = 0.0
            obs, _ = env.reset()

        if global_step >= args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max = target_network(b_next_obs).max(dim=1).values
                    td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
                old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
                loss = F.mse_loss(td_target, old_val)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 1000 == 0:
            score = evaluate(q_network)
            print(f"step {global_step + 1} epsilon {epsilon:.2f} recent {np.mean(recent):.2f} greedy {score:.2f}")
