# Deep Q-learning in one file, on a small grid world with a goal that is elsewhere in each episode.
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


class GridWorld:
    MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])

    def __init__(self, side=5, max_steps=40, seed=0):
        self.side, self.max_steps = side, max_steps
        self.rng = np.random.default_rng(seed)
        self.obs = np.zeros(4, dtype=np.float32)

    def _get_obs(self):
        self.obs[:2] = 2 * self.agent / (self.side - 1) - 1
        self.obs[2:] = 2 * self.goal / (self.side - 1) - 1
        return self.obs.copy()

    def reset(self):
        agent, goal = self.rng.permutation(self.side**2)[:2]
        self.agent = np.array(divmod(int(agent), self.side))
        self.goal = np.array(divmod(int(goal), self.side))
        self.elapsed = 0
        return self._get_obs(), {}

    def step(self, action):
        self.agent = np.clip(self.agent + self.MOVES[action], 0, self.side - 1)
        self.elapsed += 1
        terminated = bool((self.agent == self.goal).all())
        truncated = not terminated and self.elapsed >= self.max_steps
        reward = 1.0 if terminated else -0.02
        return self._get_obs(), reward, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards, self.dones = np.zeros((size, 1), dtype=np.float32), np.zeros((size, 1), dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos], self.next_observations[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        inds = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(array[inds]) for array in arrays]


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


def evaluate(network, episodes=100, seed=1000):
    env = GridWorld(seed=seed)
    returns, values = [], []
    for _ in range(episodes):
        obs, _ = env.reset()
        total, finished = 0.0, False
        with torch.no_grad():
            values.append(network(torch.from_numpy(obs)).max().item())
            while not finished:
                action = int(network(torch.from_numpy(obs)).argmax())
                obs, reward, terminated, truncated, _ = env.step(action)
                total += reward
                finished = terminated or truncated
        returns.append(total)
    return float(np.mean(returns)), float(np.mean(values))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridWorld(seed=args.seed)
    q_network = QNetwork(4, 4)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(4, 4)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 4)
    explore_steps = args.exploration_fraction * args.total_timesteps
    episodic_return, recent = 0.0, []

    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, explore_steps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())

        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        episodic_return += reward
        if terminated or truncated:
            recent.append(episodic_return)
            episodic_return = 0.0
            obs, _ = env.reset()

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(b_next_obs).max(dim=1)
                    td_target = b_rewards.flatten() + args.gamma * target_max * (1 - b_dones.flatten())
                old_val = q_network(b_obs).gather(1, b_actions).squeeze()
                loss = F.mse_loss(old_val, td_target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if global_step % 1000 == 0:
                    print(f"step {global_step} td_loss {loss.item():.4f} return {np.mean(recent[-50:]):.3f}")
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

    mean_return, mean_value = evaluate(q_network)
    print(f"greedy return {mean_return:.3f}, value promised at the start {mean_value:.3f}")
