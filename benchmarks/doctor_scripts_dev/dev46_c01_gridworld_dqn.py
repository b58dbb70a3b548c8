"""Single-file DQN in the manner of CleanRL, on a small grid with a goal in one of the corners."""
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Args:
    seed: int = 1
    side: int = 5
    episode_limit: int = 30
    total_timesteps: int = 8000
    learning_rate: float = 1e-3
    buffer_size: int = 8000
    gamma: float = 0.95
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 400
    train_frequency: int = 2


class CornerGrid:
    """Four moves; 1 for reaching the corner that is shown, -0.01 for every other step."""
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, side, limit, seed):
        self.side, self.limit = side, limit
        self.rng = np.random.default_rng(seed)
        self.corners = [(0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1)]

    def observe(self):
        obs = np.zeros(self.side * self.side + 4, dtype=np.float32)
        obs[self.place[0] * self.side + self.place[1]] = 1.0
        obs[self.side * self.side + self.goal] = 1.0
        return obs

    def reset(self):
        self.goal = int(self.rng.integers(4))
        self.place = self.corners[self.goal]
        while self.place == self.corners[self.goal]:
            self.place = tuple(int(v) for v in self.rng.integers(self.side, size=2))
        self.steps = 0
        return self.observe()

    def step(self, action):
        down, right = self.moves[action]
        row = min(max(self.place[0] + down, 0), self.side - 1)
        col = min(max(self.place[1] + right, 0), self.side - 1)
        self.place = (row, col)
        self.steps += 1
        terminated = self.place == self.corners[self.goal]
        truncated = not terminated and self.steps >= self.limit
        return self.observe(), (1.0 if terminated else -0.01), terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.terminations = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, termination):
        i = self.pos
        self.obs[i], self.next_obs[i], self.actions[i] = obs, next_obs, action
        self.rewards[i], self.terminations[i] = reward, termination
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.obs, self.next_obs, self.actions, self.rewards, self.terminations)
        return [torch.from_numpy(a[idx]) for a in arrays]


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


def evaluate(q_network, args, episodes=100):
    env = CornerGrid(args.side, args.episode_limit, args.seed + 1000)
    returns, reached = [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))
            obs, reward, terminated, truncated = env.step(action)
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
    env = CornerGrid(args.side, args.episode_limit, args.seed)
    obs = env.reset()
    q_network = QNetwork(len(obs), 4)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(len(obs), 4)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, len(obs))
    explore_steps = args.exploration_fraction * args.total_timesteps

    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, explore_steps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, float(terminated))
        obs = env.reset() if terminated or truncated else next_obs

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next, b_actions, b_rewards, b_term = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max, _ = target_network(b_next).max(dim=1)
                td_target = b_rewards + args.gamma * target_max * (1 - b_term)
            old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
            loss = F.mse_loss(td_target, old_val)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())

        if global_step % 2000 == 0 and global_step > args.learning_starts:
            print(f"step {global_step} loss {loss.item():.4f} epsilon {epsilon:.2f}")

    mean_return, success = evaluate(q_network, args)
    print(f"greedy policy: return {mean_return:.3f}, goal reached in {100 * success:.0f} %")
