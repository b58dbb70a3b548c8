# Deep Q-learning in a single file, on a small grid where an agent walks to a goal.
import random
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
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class GridEnv:
    """Moves up, down, left, right on a square; 1 for the goal, a small price for every other step."""

    moves = ((0, 1), (0, -1), (-1, 0), (1, 0))

    def __init__(self, size=6, max_steps=20):
        self.size, self.max_steps = size, max_steps

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.agent = self.rng.integers(0, self.size, 2)
        self.goal = self.rng.integers(0, self.size, 2)
        while (self.goal == self.agent).all():
            self.goal = self.rng.integers(0, self.size, 2)
        self.t = 0
        return self.observe(), {}

    def observe(self):
        return np.concatenate([self.agent / self.size, (self.goal - self.agent) / self.size]).astype(np.float32)

    def step(self, action):
        self.agent = np.clip(self.agent + np.array(self.moves[action]), 0, self.size - 1)
        self.t += 1
        terminated = bool((self.agent == self.goal).all())
        truncated = not terminated and self.t >= self.max_steps
        return self.observe(), 1.0 if terminated else -0.05, terminated, truncated, {}


class QNetwork(nn.Module):
    def __init__(self, n_obs=4, n_actions=4):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(n_obs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, n_obs=4):
        self.observations = np.zeros((size, n_obs), np.float32)
        self.next_observations = np.zeros((size, n_obs), np.float32)
        self.actions = np.zeros(size, np.int64)
        self.rewards = np.zeros(size, np.float32)
        self.dones = np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = float(done)
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(a[idx]) for a in arrays]


def linear_schedule(start_e, end_e, duration, t):
    return max((end_e - start_e) / duration * t + start_e, end_e)


def evaluate(q_network, episodes=60):
    env = GridEnv()
    env.reset(seed=1000)
    returns, reached = [], 0
    for _ in range(episodes):
        obs, _ = env.reset()
        total, over = 0.0, False
        while not over:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated, _ = env.step(action)
            total += reward
            over = terminated or truncated
        reached += terminated
        returns.append(total)
    return float(np.mean(returns)), reached / episodes


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    env = GridEnv()
    q_network = QNetwork()
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size)

    obs, _ = env.reset(seed=args.seed)
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())

        next_obs, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if done:
            obs, _ = env.reset()

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max = target_network(b_next).max(dim=1).values
                    td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
                old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
                loss = F.mse_loss(old_val, td_target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if global_step % 1500 == 1499:
            mean_return, success = evaluate(q_network)
            print(f"step={global_step + 1} return={mean_return:.3f} success={success:.2f}")
