# Deep Q-learning in one file: find the way over a lake with holes, from anywhere.
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
    total_timesteps: int = 8000
    learning_rate: float = 1e-3
    buffer_size: int = 8000
    gamma: float = 0.95
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class Lake:
    """A 6 x 6 lake: a goal in the corner, four holes, at most 20 steps."""

    size, goal, n_actions = 6, (5, 5), 4
    holes = {(1, 3), (2, 1), (3, 4), (4, 2)}
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def __init__(self, max_steps=20, seed=0):
        self.max_steps = max_steps
        self.rng = random.Random(seed)
        cells = [(row, col) for row in range(self.size) for col in range(self.size)]
        self.starts = [cell for cell in cells if cell not in self.holes and cell != self.goal]

    def _observation(self):
        obs = np.zeros(2 * self.size, dtype=np.float32)
        obs[self.cell[0]] = 1.0
        obs[self.size + self.cell[1]] = 1.0
        return obs

    def reset(self, start=None):
        self.cell = start if start is not None else self.rng.choice(self.starts)
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        row, col = self.cell[0] + self.moves[action][0], self.cell[1] + self.moves[action][1]
        self.cell = (min(max(row, 0), self.size - 1), min(max(col, 0), self.size - 1))
        self.steps += 1
        reward, terminated = -0.01, False
        if self.cell in self.holes:
            reward, terminated = -1.0, True
        elif self.cell == self.goal:
            reward, terminated = 1.0, True
        truncated = not terminated and self.steps >= self.max_steps
        return self._observation(), reward, terminated, truncated, {}


Batch = namedtuple("Batch", "observations next_observations actions rewards dones")


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.size, self.pos, self.full = size, 0, False
        obs, scalars = np.zeros((size, obs_dim), np.float32), np.zeros(size, np.float32)
        self.data = Batch(obs, obs.copy(), scalars.astype(np.int64), scalars.copy(), scalars.copy())

    def add(self, *transition):
        for array, value in zip(self.data, transition):
            array[self.pos] = value
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        return Batch(*(torch.from_numpy(array[idx]) for array in self.data))


def make_network(obs_dim, n_actions):
    return nn.Sequential(nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions))


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def evaluate(q_network):
    """Follow the best action from each cell: share that arrives, mean return."""
    env = Lake()
    arrived, returns = 0, []
    for start in env.starts:
        obs, _ = env.reset(start)
        total, over = 0.0, False
        while not over:
            action = q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1).item()
            obs, reward, terminated, truncated, _ = env.step(action)
            total += reward
            over = terminated or truncated
        arrived += int(env.cell == env.goal)
        returns.append(total)
    return arrived / len(env.starts), float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Lake(seed=args.seed)
    obs_dim = 2 * env.size
    q_network = make_network(obs_dim, env.n_actions)
    target_network = make_network(obs_dim, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, obs_dim)
    exploration_steps = args.exploration_fraction * args.total_timesteps

    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, exploration_steps, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1).item()

        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
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
        if (global_step + 1) % 1000 == 0:
            share, mean_return = evaluate(q_network)
            print(f"step {global_step + 1}: epsilon {epsilon:.2f}, arrives {share:.0%}, return {mean_return:.3f}")
