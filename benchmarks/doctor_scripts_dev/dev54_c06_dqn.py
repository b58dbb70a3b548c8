"""Q-learning in the idiom of CleanRL's dqn.py: a cart on a line has to be parked at the goal."""
import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Parking:
    """Push a cart left, not at all, or right; an episode ends at the goal, or is cut off after 40 steps."""

    limit = 40

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.position = self.rng.uniform(-1.0, 1.0)
        self.speed, self.time = 0.0, 0
        return self.observe()

    def observe(self):
        return np.array([self.position, 5 * self.speed], dtype=np.float32)

    def step(self, action):
        self.speed = 0.8 * self.speed + 0.05 * (action - 1)
        self.position = float(np.clip(self.position + self.speed, -1.5, 1.5))
        self.time += 1
        terminated = abs(self.position) < 0.1 and abs(self.speed) < 0.08
        reward = 1.0 if terminated else -0.1
        return self.observe(), reward, terminated, self.time >= self.limit


class ReplayBuffer:
    def __init__(self, size, width=2):
        self.obs = torch.zeros(size, width)
        self.next_obs = torch.zeros(size, width)
        self.actions = torch.zeros(size, dtype=torch.long)
        self.rewards = torch.zeros(size)
        self.terminated = torch.zeros(size)
        self.size, self.count = size, 0

    def add(self, obs, next_obs, action, reward, terminated):
        i = self.count % self.size
        self.obs[i], self.next_obs[i] = torch.from_numpy(obs), torch.from_numpy(next_obs)
        self.actions[i], self.rewards[i], self.terminated[i] = action, reward, float(terminated)
        self.count += 1

    def sample(self, n):
        i = torch.randint(0, min(self.count, self.size), (n,))
        return self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.terminated[i]


class QNetwork(nn.Module):
    def __init__(self, inputs=2, actions=3, hidden=64):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start, end, duration, t):
    return max(start + (end - start) * t / duration, end)


def choose(q_network, obs, epsilon):
    if random.random() < epsilon:
        return random.randrange(3)
    with torch.no_grad():
        values = q_network(torch.from_numpy(obs))
    return int(values.argmax())


def evaluate(q_network, episodes=20):
    env = Parking(seed=10_000)
    returns = []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--total-timesteps", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-starts", type=int, default=300)
    parser.add_argument("--train-frequency", type=int, default=2)
    parser.add_argument("--target-frequency", type=int, default=100)
    args = parser.parse_args()
    random.seed(1)
    torch.manual_seed(1)

    env, rb = Parking(seed=1), ReplayBuffer(5000)
    q_network, target_network = QNetwork(), QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    obs = env.reset()
    for step in range(args.total_timesteps):
        epsilon = linear_schedule(1.0, 0.05, 0.5 * args.total_timesteps, step)
        action = choose(q_network, obs, epsilon)
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs
        if step >= args.learning_starts and step % args.train_frequency == 0:
            o, n, a, r, d = rb.sample(args.batch_size)
            with torch.no_grad():
                target = r + args.gamma * target_network(n).max(dim=1).values * (1 - d)
            value = q_network(o).gather(1, a[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(value, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % args.target_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if step % 1000 == 999:
            print(f"step {step + 1} epsilon {epsilon:.2f} return {evaluate(q_network):.3f}")


if __name__ == "__main__":
    main()
