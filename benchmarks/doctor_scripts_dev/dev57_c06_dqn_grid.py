"""Double DQN in one file, in the manner of CleanRL, for a walker that looks for a goal on a small grid."""

import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class GridEnv:
    """Four moves on a square grid; 1 for the goal, a small price for each step, at most 24 steps."""

    MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, size=5, limit=24, seed=0):
        self.size, self.limit = size, limit
        self.rng = np.random.default_rng(seed)

    def observe(self):
        scale = self.size - 1
        position = 2 * self.position / scale - 1
        return np.concatenate([position, (self.goal - self.position) / scale * 2]).astype(np.float32)

    def reset(self):
        self.steps = 0
        self.position = self.rng.integers(0, self.size, 2)
        self.goal = self.rng.integers(0, self.size, 2)
        while (self.goal == self.position).all():
            self.goal = self.rng.integers(0, self.size, 2)
        return self.observe()

    def step(self, action):
        self.steps += 1
        self.position = np.clip(self.position + np.array(self.MOVES[action]), 0, self.size - 1)
        terminated = bool((self.position == self.goal).all())
        truncated = self.steps >= self.limit and not terminated
        return self.observe(), 1.0 if terminated else -0.05, terminated, truncated


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
        self.obs[i], self.next_obs[i], self.actions[i] = obs, next_obs, action
        self.rewards[i], self.dones[i] = reward, done
        self.pos = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size, batch_size)
        arrays = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(a[idx]) for a in arrays]


class QNetwork(nn.Module):
    def __init__(self, obs_dim=4, actions=4):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start, end, duration, t):
    return max((end - start) / duration * t + start, end)


@torch.no_grad()
def evaluate(q_network, episodes=30):
    env, returns = GridEnv(seed=1000), []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = int(q_network(torch.from_numpy(obs)).argmax())
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
    parser.add_argument("--buffer-size", type=int, default=5000)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--target-network-frequency", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--start-e", type=float, default=1.0)
    parser.add_argument("--end-e", type=float, default=0.05)
    parser.add_argument("--exploration-fraction", type=float, default=0.5)
    parser.add_argument("--learning-starts", type=int, default=200)
    parser.add_argument("--train-frequency", type=int, default=2)
    return parser.parse_args()


def main():
    args = parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = GridEnv(seed=args.seed)
    q_network, target_network = QNetwork(), QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 4)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            s, s2, a, r, done = rb.sample(args.batch_size)
            with torch.no_grad():
                best = q_network(s2).argmax(1, keepdim=True)
                target_max = target_network(s2).gather(1, best).squeeze(1)
                td_target = r + args.gamma * target_max * (1 - done)
            old_val = q_network(s).gather(1, a[:, None]).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 1000 == 0:
            print(f"step {global_step + 1}: evaluation return {evaluate(q_network):.3f}")


if __name__ == "__main__":
    main()
