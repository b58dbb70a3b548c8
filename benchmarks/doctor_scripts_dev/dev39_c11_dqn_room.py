# DQN in a single file, in a room of 5 x 5 places
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 5000
    learning_rate: float = 1e-3
    buffer_size: int = 5000
    gamma: float = 0.95
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 300
    train_frequency: int = 2


class Room:
    """Start anywhere, go to the corner: 1 for arriving, a small price for each step, a limit of time."""

    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]

    def __init__(self, size=5, limit=40, seed=0):
        self.size, self.limit = size, limit
        self.goal = (size - 1, size - 1)
        self.starts = [(x, y) for x in range(size) for y in range(size) if (x, y) != self.goal]
        self.rng = np.random.default_rng(seed)

    def observe(self):
        return np.array(self.place, dtype=np.float32) * 2 / (self.size - 1) - 1

    def reset(self, start=None):
        self.place = start or self.starts[self.rng.integers(len(self.starts))]
        self.elapsed = 0
        return self.observe()

    def step(self, action):
        dx, dy = self.moves[action]
        x, y = self.place
        self.place = (min(max(x + dx, 0), self.size - 1), min(max(y + dy, 0), self.size - 1))
        self.elapsed += 1
        terminated = self.place == self.goal
        truncated = not terminated and self.elapsed >= self.limit
        return self.observe(), (1.0 if terminated else -0.02), terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = torch.zeros(size, obs_dim)
        self.next_obs = torch.zeros(size, obs_dim)
        self.actions = torch.zeros(size, dtype=torch.long)
        self.rewards = torch.zeros(size)
        self.terminations = torch.zeros(size)
        self.size, self.count = size, 0

    def add(self, obs, next_obs, action, reward, terminated):
        i = self.count % self.size
        self.obs[i] = torch.from_numpy(obs)
        self.next_obs[i] = torch.from_numpy(next_obs)
        self.actions[i], self.rewards[i], self.terminations[i] = action, reward, float(terminated)
        self.count += 1

    def sample(self, batch_size):
        i = torch.randint(0, min(self.count, self.size), (batch_size,))
        return self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.terminations[i]


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


@torch.no_grad()
def evaluate(q_network):
    env, returns, arrived = Room(), [], 0
    for start in env.starts:
        obs, total, over = env.reset(start), 0.0, False
        while not over:
            action = q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1).item()
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
        arrived += int(terminated)
    return float(np.mean(returns)), arrived / len(env.starts)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Room(seed=args.seed)
    q_network = QNetwork(2, 4)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(2, 4)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 2)
    print("untrained: return %.3f, arrived %.2f" % evaluate(q_network))

    start_time = time.time()
    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(
            args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step
        )
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1).item()
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next, b_actions, b_rewards, b_terminations = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_terminations)
            old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())

        if (global_step + 1) % 1000 == 0:
            mean_return, share = evaluate(q_network)
            print(f"step {global_step + 1}: epsilon {epsilon:.2f}, return {mean_return:.3f}, arrived {share:.2f}, "
                  f"SPS {int(global_step / (time.time() - start_time))}")
