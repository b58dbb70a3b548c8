# Double DQN in a single file: walk to the goal of a small grid.
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 9000
    learning_rate: float = 1e-3
    buffer_size: int = 9000
    gamma: float = 0.95
    target_network_frequency: int = 250
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class GridEnv:
    """Five by five fields; the goal is somewhere else in each episode. Cut off after 25 steps."""

    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, size=5, limit=25, seed=0):
        self.size, self.limit = size, limit
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        return (np.array([*self.agent, *self.goal], dtype=np.float32) / (self.size - 1)) * 2 - 1

    def reset(self):
        cells = self.rng.choice(self.size**2, size=2, replace=False)
        self.agent, self.goal = (tuple(int(v) for v in divmod(cell, self.size)) for cell in cells)
        self.steps = 0
        return self._obs()

    def step(self, action):
        move = self.moves[action]
        self.agent = tuple(min(max(self.agent[i] + move[i], 0), self.size - 1) for i in range(2))
        self.steps += 1
        terminated = self.agent == self.goal
        truncated = not terminated and self.steps >= self.limit
        return self._obs(), 1.0 if terminated else -0.02, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = torch.zeros(size, obs_dim)
        self.next_obs = torch.zeros(size, obs_dim)
        self.actions = torch.zeros(size, dtype=torch.long)
        self.rewards = torch.zeros(size)
        self.terminations = torch.zeros(size)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, terminated):
        self.obs[self.pos] = torch.from_numpy(obs)
        self.next_obs[self.pos] = torch.from_numpy(next_obs)
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.terminations[self.pos] = float(terminated)
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        i = torch.randint(0, self.size if self.full else self.pos, (batch_size,))
        return self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.terminations[i]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max(end_e, start_e + (end_e - start_e) * t / duration)


def evaluate(q_network, episodes=60):
    env, reached = GridEnv(seed=999), 0
    for _ in range(episodes):
        obs, over = env.reset(), False
        while not over:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, _, terminated, truncated = env.step(action)
            over = terminated or truncated
        reached += terminated
    return reached / episodes


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridEnv(seed=args.seed)
    q_network, target_network = QNetwork(4, 4), QNetwork(4, 4)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 4)

    start_time = time.time()
    obs, episodic_return, returns = env.reset(), 0.0, []
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(
            args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step
        )
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episodic_return += reward
        obs = next_obs
        if terminated or truncated:
            returns.append(episodic_return)
            obs, episodic_return = env.reset(), 0.0

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_terminations = rb.sample(args.batch_size)
            with torch.no_grad():
                best_actions = q_network(b_next_obs).argmax(dim=1, keepdim=True)
                next_values = target_network(b_next_obs).gather(1, best_actions).squeeze(1)
                td_target = b_rewards + args.gamma * next_values * (1 - b_terminations)
            old_values = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(old_values, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 3000 == 0:
            print(f"step {global_step + 1}: mean return {np.mean(returns[-50:]):.3f}, {time.time() - start_time:.1f}s")

    print(f"goal reached in {evaluate(q_network):.0%} of the episodes")
