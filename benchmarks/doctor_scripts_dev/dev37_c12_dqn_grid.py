# DQN in a single file, in the way of CleanRL, on a small world of 5 x 5 cells with a goal and a pit
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
    total_timesteps: int = 6000
    learning_rate: float = 1e-3
    buffer_size: int = 10000
    gamma: float = 0.95
    target_network_frequency: int = 150
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.6
    learning_starts: int = 500
    train_frequency: int = 2


class GridWorld:
    """Starts anywhere but at the goal (+1) and in the pit (-1), both of which end an episode; a step costs 0.01."""

    size, n_actions, limit = 5, 4, 40
    goal, pit = (4, 4), (2, 3)
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def observe(self):
        obs = np.zeros(self.size * self.size, dtype=np.float32)
        obs[self.pos[0] * self.size + self.pos[1]] = 1.0
        return obs

    def reset(self):
        self.steps, self.pos = 0, self.goal
        while self.pos in (self.goal, self.pit):
            self.pos = tuple(int(i) for i in self.rng.integers(0, self.size, 2))
        return self.observe()

    def step(self, action):
        row, col = (min(max(p + m, 0), self.size - 1) for p, m in zip(self.pos, self.moves[action]))
        self.pos = (row, col)
        self.steps += 1
        terminated = self.pos in (self.goal, self.pit)
        reward = -0.01 if not terminated else (1.0 if self.pos == self.goal else -1.0)
        truncated = not terminated and self.steps >= self.limit
        return self.observe(), reward, terminated, truncated


class QNetwork(nn.Module):
    def __init__(self, n_obs, n_actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(n_obs, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(),
                                     nn.Linear(64, n_actions))

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, n_obs):
        self.obs = np.zeros((size, n_obs), dtype=np.float32)
        self.next_obs = np.zeros((size, n_obs), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.terminated = np.zeros(size, dtype=np.float32)
        self.size, self.count = size, 0

    def add(self, obs, next_obs, action, reward, terminated):
        at = self.count % self.size
        self.obs[at], self.next_obs[at] = obs, next_obs
        self.actions[at], self.rewards[at], self.terminated[at] = action, reward, float(terminated)
        self.count += 1

    def sample(self, batch_size):
        index = np.random.randint(0, min(self.count, self.size), batch_size)
        parts = self.obs, self.next_obs, self.actions, self.rewards, self.terminated
        return [torch.from_numpy(part[index]) for part in parts]


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(q_network, episodes=50, seed=1000):
    env, returns = GridWorld(seed), []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs)).argmax().item()
            obs, reward, terminated, truncated = env.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
    return float(np.mean(returns)), float(np.mean(np.array(returns) > 0))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridWorld(args.seed)
    n_obs = env.size * env.size
    q_network = QNetwork(n_obs, env.n_actions)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(n_obs, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, n_obs)
    start_time = time.time()

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        duration = args.exploration_fraction * args.total_timesteps
        epsilon = linear_schedule(args.start_e, args.end_e, duration, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = int(torch.argmax(q_network(torch.from_numpy(obs))))

        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_terminated = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_terminated)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())

        if (global_step + 1) % 1500 == 0:
            mean_return, success = evaluate(q_network)
            sps = int(global_step / (time.time() - start_time))
            print(f"step {global_step + 1}: return {mean_return:.3f}, goal reached {100 * success:.0f} %, SPS {sps}")
