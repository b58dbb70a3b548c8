# Deep Q-learning in a single file, in the style of CleanRL, on a grid with a goal that moves between episodes
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


class GoalGrid:
    """5 x 5 fields, four moves; 1 at the goal, a price of 0.05 for other moves, cut off after 30 moves."""

    size, time_limit, n_actions = 5, 30, 4
    moves = ((0, 1), (0, -1), (1, 0), (-1, 0))

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        start, goal = self.rng.choice(self.size**2, size=2, replace=False)
        self.agent, self.goal, self.elapsed = divmod(int(start), self.size), divmod(int(goal), self.size), 0
        return self._obs()

    def _obs(self):
        return np.array([*self.agent, *self.goal], dtype=np.float32) / 2 - 1

    def step(self, action):
        self.elapsed += 1
        self.agent = tuple(min(max(p + d, 0), self.size - 1) for p, d in zip(self.agent, self.moves[action]))
        terminated = self.agent == self.goal
        truncated = not terminated and self.elapsed >= self.time_limit
        return self._obs(), 1.0 if terminated else -0.05, terminated, truncated


Batch = namedtuple("Batch", "observations next_observations actions rewards dones")


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.obs[self.pos], self.next_obs[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        i = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.dones[i])
        return Batch(*map(torch.from_numpy, arrays))


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 96),
            nn.ReLU(),
            nn.Linear(96, 64),
            nn.ReLU(),
            nn.Linear(64, n_actions),
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def greedy(q_network, obs):
    return int(q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))


def evaluate(q_network, episodes, seed):
    env, returns, reached = GoalGrid(seed), [], 0
    for _ in range(episodes):
        obs, over, total = env.reset(), False, 0.0
        while not over:
            obs, reward, terminated, truncated = env.step(greedy(q_network, obs))
            total += reward
            over = terminated or truncated
        returns.append(total)
        reached += terminated
    return float(np.mean(returns)), reached / episodes


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GoalGrid(args.seed)
    q_network = QNetwork(4, env.n_actions)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(4, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 4)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        duration = args.exploration_fraction * args.total_timesteps
        epsilon = linear_schedule(args.start_e, args.end_e, duration, global_step)
        action = random.randrange(env.n_actions) if random.random() < epsilon else greedy(q_network, obs)
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts:
            if global_step % args.train_frequency == 0:
                data = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(data.next_observations).max(dim=1)
                    td_target = data.rewards + args.gamma * target_max * (1 - data.dones)
                old_val = q_network(data.observations).gather(1, data.actions).squeeze(1)
                loss = F.mse_loss(old_val, td_target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 2000 == 0:
            mean_return, success = evaluate(q_network, 50, seed=100)
            print(f"step {global_step + 1}: epsilon {epsilon:.2f} eval return {mean_return:.3f} reached {success:.2f}")
