"""Deep Q-learning on a small grid, after CleanRL's single-file dqn.py."""

import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

MOVES = [(0, 1), (0, -1), (1, 0), (-1, 0)]


class GridEnv:
    """Walk to the goal of a grid of 5 x 5 cells. The interface is that of gymnasium."""

    obs_dim = 4
    n_actions = 4

    def __init__(self, size=5, horizon=25, seed=0):
        self.size, self.horizon = size, horizon
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        values = [*self.agent, *self.goal]
        return np.array(values, dtype=np.float32) / (self.size - 1) * 2 - 1

    def reset(self):
        self.t = 0
        self.agent = self.rng.integers(0, self.size, 2)
        self.goal = self.rng.integers(0, self.size, 2)
        while (self.agent == self.goal).all():
            self.goal = self.rng.integers(0, self.size, 2)
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        self.agent = np.clip(self.agent + np.array(MOVES[action]), 0, self.size - 1)
        reached = bool((self.agent == self.goal).all())
        reward = 1.0 if reached else -0.05
        terminated = reached
        truncated = not reached and self.t >= self.horizon
        return self._obs(), reward, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, capacity, obs_dim):
        self.obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.dones = np.zeros(capacity, dtype=np.float32)
        self.capacity, self.pos, self.full = capacity, 0, False

    def add(self, obs, next_obs, action, reward, terminated):
        self.obs[self.pos], self.next_obs[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, terminated
        self.pos = (self.pos + 1) % self.capacity
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        upper = self.capacity if self.full else self.pos
        index = np.random.randint(0, upper, size=batch_size)
        parts = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(part[index]) for part in parts]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def evaluate(q_network, episodes=40, seed=1000):
    env = GridEnv(seed=seed)
    returns = []
    for _ in range(episodes):
        obs, _ = env.reset()
        total, over = 0.0, False
        while not over:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, reward, terminated, truncated, _ = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=6000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=6000)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--target-network-frequency", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--start-e", type=float, default=1.0)
    parser.add_argument("--end-e", type=float, default=0.05)
    parser.add_argument("--exploration-fraction", type=float, default=0.5)
    parser.add_argument("--learning-starts", type=int, default=300)
    parser.add_argument("--train-frequency", type=int, default=2)
    return parser.parse_args()


def main():
    args = parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridEnv(seed=args.seed)
    q_network = QNetwork(env.obs_dim, env.n_actions)
    target_network = QNetwork(env.obs_dim, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, env.obs_dim)

    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset()[0] if terminated or truncated else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 1000 == 0:
            print(f"step {global_step + 1}: epsilon {epsilon:.2f}, return {evaluate(q_network):.3f}")


if __name__ == "__main__":
    main()
