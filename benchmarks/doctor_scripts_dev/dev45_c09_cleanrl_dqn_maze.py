# DQN on a small maze, single file in the manner of CleanRL
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
    buffer_size: int = 6000
    gamma: float = 0.95
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 400
    train_frequency: int = 2


class Maze:
    """Five by five cells, S anywhere, goal in a corner; 40 steps at most."""

    walls = {(1, 1), (1, 2), (3, 3), (3, 1)}
    goal = (4, 4)
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.free = [(r, c) for r in range(5) for c in range(5) if (r, c) not in self.walls and (r, c) != self.goal]

    def observe(self):
        obs = np.zeros(25, dtype=np.float32)
        obs[self.cell[0] * 5 + self.cell[1]] = 1.0
        return obs

    def reset(self, cell=None):
        self.cell = cell or self.free[self.rng.integers(len(self.free))]
        self.steps = 0
        return self.observe()

    def step(self, action):
        row, col = self.cell[0] + self.moves[action][0], self.cell[1] + self.moves[action][1]
        if 0 <= row < 5 and 0 <= col < 5 and (row, col) not in self.walls:
            self.cell = (row, col)
        self.steps += 1
        terminated = self.cell == self.goal
        truncated = self.steps >= 40 and not terminated
        return self.observe(), 1.0 if terminated else -0.02, terminated, truncated


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(25, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(q_network, seed):
    env = Maze(seed)
    returns, solved = [], 0
    for cell in env.free:
        obs, total, over = env.reset(cell), 0.0, False
        while not over:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs)).argmax(dim=-1).item()
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        solved += terminated
        returns.append(total)
    return float(np.mean(returns)), solved / len(env.free)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Maze(args.seed)
    q_network, target_network = QNetwork(), QNetwork()
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network.load_state_dict(q_network.state_dict())
    buffer = []
    start_time = time.time()

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs)).argmax().item()
        next_obs, reward, terminated, truncated = env.step(action)
        buffer.append((obs, action, reward, next_obs, float(terminated)))
        if len(buffer) > args.buffer_size:
            buffer.pop(0)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            o, a, r, o2, last = zip(*random.sample(buffer, args.batch_size))
            o, o2 = torch.from_numpy(np.stack(o)), torch.from_numpy(np.stack(o2))
            a, r, last = torch.tensor(a), torch.tensor(r), torch.tensor(last)
            with torch.no_grad():
                target_max = target_network(o2).max(dim=1).values
                td_target = r + args.gamma * target_max * (1 - last)
            old_val = q_network(o).gather(1, a[:, None]).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())

        if (global_step + 1) % 1000 == 0:
            mean_return, success = evaluate(q_network, args.seed)
            print(f"global_step={global_step + 1} epsilon={epsilon:.2f} return={mean_return:.3f} success={success:.2f} "
                  f"SPS={int((global_step + 1) / (time.time() - start_time))}")
