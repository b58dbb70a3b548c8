# Double DQN in one file, on a grid with a wall. No gym needed.
import random
from collections import namedtuple
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
    tau: float = 0.02
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.6
    learning_starts: int = 500
    train_frequency: int = 2


class WallGrid:
    """5 x 5 cells, a wall with one gap, the goal in the far corner. An episode is cut off after 40 steps."""

    size, limit, goal = 5, 40, (4, 4)
    walls = {(2, 0), (2, 1), (2, 2), (2, 4)}
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def __init__(self, rng):
        self.rng = rng
        every = [(r, c) for r in range(self.size) for c in range(self.size)]
        self.starts = [cell for cell in every if cell not in self.walls and cell != self.goal]

    def observe(self):
        obs = np.zeros((self.size, self.size), dtype=np.float32)
        obs[self.cell] = 1.0
        return obs.reshape(-1)

    def reset(self, start=None):
        self.cell = start or self.starts[self.rng.integers(len(self.starts))]
        self.clock = 0
        return self.observe()

    def step(self, action):
        row, col = self.cell[0] + self.moves[action][0], self.cell[1] + self.moves[action][1]
        if 0 <= row < self.size and 0 <= col < self.size and (row, col) not in self.walls:
            self.cell = (row, col)
        self.clock += 1
        terminated = self.cell == self.goal
        truncated = not terminated and self.clock >= self.limit
        return self.observe(), 1.0 if terminated else -0.02, terminated, truncated


Batch = namedtuple("Batch", "obs actions rewards next_obs terminated")


class ReplayBuffer:
    def __init__(self, size, dim, rng):
        self.obs, self.next_obs = np.zeros((size, dim), np.float32), np.zeros((size, dim), np.float32)
        self.actions, self.rewards = np.zeros(size, np.int64), np.zeros(size, np.float32)
        self.terminated = np.zeros(size, np.float32)
        self.size, self.count, self.rng = size, 0, rng

    def add(self, obs, action, reward, next_obs, terminated):
        i = self.count % self.size
        self.obs[i], self.actions[i], self.rewards[i] = obs, action, reward
        self.next_obs[i], self.terminated[i] = next_obs, terminated
        self.count += 1

    def sample(self, n):
        rows = self.rng.integers(0, min(self.count, self.size), n)
        fields = (self.obs, self.actions, self.rewards, self.next_obs, self.terminated)
        return Batch(*(torch.from_numpy(field[rows]) for field in fields))


class QNetwork(nn.Module):
    def __init__(self, dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max((end_e - start_e) / duration * t + start_e, end_e)


@torch.no_grad()
def evaluate(q_network, env):
    """Greedy from every free cell: share that reaches the goal, mean return."""
    reached, returns = [], []
    for start in env.starts:
        obs, total, done = env.reset(start), 0.0, False
        while not done:
            action = int(q_network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated = env.step(action)
            total, done = total + reward, terminated or truncated
        reached.append(terminated)
        returns.append(total)
    return np.mean(reached), np.mean(returns)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    env, eval_env = WallGrid(rng), WallGrid(rng)

    q_network, target_network = QNetwork(25, 4), QNetwork(25, 4)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 25, rng)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(
            args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())

        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, action, reward, next_obs, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            data = rb.sample(args.batch_size)
            with torch.no_grad():
                choice = q_network(data.next_obs).argmax(dim=1, keepdim=True)
                follow = target_network(data.next_obs).gather(1, choice).squeeze(1)
                td_target = data.rewards + args.gamma * follow * (1 - data.terminated)
            old_val = q_network(data.obs).gather(1, data.actions.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for target_param, param in zip(target_network.parameters(), q_network.parameters()):
                target_param.data.copy_(args.tau * param.data + (1.0 - args.tau) * target_param.data)

        if (global_step + 1) % 1000 == 0:
            success, mean_return = evaluate(q_network, eval_env)
            print(f"global_step={global_step + 1}, epsilon={epsilon:.2f}, success={success:.2f}, return={mean_return:.3f}")
