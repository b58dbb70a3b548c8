"""Deep Q-learning in one file, in the manner of CleanRL: an agent on a small grid walks to a goal."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class GridEnv:
    """Walk to the goal, 1 for it, -0.02 for each step. Cut off after 25 steps."""

    def __init__(self, size=6, limit=25, seed=0):
        self.size, self.limit = size, limit
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        return np.concatenate([self.goal - self.pos, self.pos]).astype(np.float32) / (self.size - 1)

    def reset(self):
        self.t = 0
        self.pos = self.rng.integers(0, self.size, 2)
        self.goal = self.rng.integers(0, self.size, 2)
        while (self.pos == self.goal).all():
            self.goal = self.rng.integers(0, self.size, 2)
        return self._obs()

    def step(self, action):
        self.t += 1
        self.pos = np.clip(self.pos + MOVES[action], 0, self.size - 1)
        terminated = bool((self.pos == self.goal).all())
        truncated = self.t >= self.limit and not terminated
        return self._obs(), (1.0 if terminated else -0.02), terminated, truncated


class ReplayBuffer:
    def __init__(self, capacity, obs_dim):
        self.obs = np.zeros((capacity, obs_dim), np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), np.float32)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.dones = np.zeros(capacity, np.float32)
        self.capacity, self.pos, self.size = capacity, 0, 0

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.pos = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size, rng):
        idx = rng.integers(0, self.size, batch_size)
        arrays = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(a[idx]) for a in arrays]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start, end, duration, t):
    return max(end, start + (end - start) * t / duration)


@torch.no_grad()
def evaluate(q_network, episodes=60):
    env = GridEnv(seed=10_000)
    returns, solved = [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax(1))
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
        solved += terminated
    return float(np.mean(returns)), solved / episodes


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=8000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=8000)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--target-network-frequency", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--start-e", type=float, default=1.0)
    parser.add_argument("--end-e", type=float, default=0.05)
    parser.add_argument("--exploration-fraction", type=float, default=0.6)
    parser.add_argument("--learning-starts", type=int, default=500)
    parser.add_argument("--train-frequency", type=int, default=3)
    return parser.parse_args()


def main():
    args = parse_args()
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)

    env = GridEnv(seed=args.seed)
    q_network = QNetwork(4, len(MOVES))
    target_network = QNetwork(4, len(MOVES))
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 4)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        explore = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        with torch.no_grad():
            q_values = q_network(torch.from_numpy(obs)[None])
        if rng.random() < explore:
            action = int(rng.integers(len(MOVES)))
        else:
            action = int(q_values.argmax(dim=1))
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size, rng)
            with torch.no_grad():
                target_max = target_network(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 1000 == 0:
            mean_return, solved = evaluate(q_network)
            print(f"global_step={global_step + 1}, explore={explore:.2f}, return={mean_return:.3f}, solved={solved:.2f}")


if __name__ == "__main__":
    main()
