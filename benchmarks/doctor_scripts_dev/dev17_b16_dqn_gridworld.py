import argparse
import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple("Transition", "obs action reward next_obs terminated")

MAP = [
    "......",
    ".##.#.",
    "....#.",
    ".#.X..",
    ".#.#..",
    "...#.G",
]


class GridWorld:
    """Walk to G without falling into X. Same interface as gymnasium."""

    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    n_actions = 4

    def __init__(self, max_steps=40, slip=0.05, seed=0):
        self.size = len(MAP)
        self.n_obs = self.size * self.size
        self.free = [(r, c) for r in range(self.size) for c in range(self.size) if MAP[r][c] == "."]
        self.max_steps = max_steps
        self.slip = slip
        self.rng = random.Random(seed)

    def observe(self):
        obs = np.zeros(self.n_obs, dtype=np.float32)
        obs[self.position[0] * self.size + self.position[1]] = 1.0
        return obs

    def reset(self, position=None):
        self.position = position if position is not None else self.rng.choice(self.free)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        if self.rng.random() < self.slip:
            action = self.rng.randrange(self.n_actions)
        row = self.position[0] + self.moves[action][0]
        col = self.position[1] + self.moves[action][1]
        if 0 <= row < self.size and 0 <= col < self.size and MAP[row][col] != "#":
            self.position = (row, col)
        self.steps += 1
        cell = MAP[self.position[0]][self.position[1]]
        reward = {"G": 1.0, "X": -1.0}.get(cell, -0.01)
        terminated = cell in "GX"
        truncated = not terminated and self.steps >= self.max_steps
        return self.observe(), reward, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, capacity):
        self.memory = deque(maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        batch = Transition(*zip(*random.sample(self.memory, batch_size)))
        return (
            torch.from_numpy(np.stack(batch.obs)),
            torch.tensor(batch.action),
            torch.tensor(batch.reward, dtype=torch.float32),
            torch.from_numpy(np.stack(batch.next_obs)),
            torch.tensor(batch.terminated, dtype=torch.float32),
        )

    def __len__(self):
        return len(self.memory)


class QNetwork(nn.Module):
    def __init__(self, n_obs, n_actions):
        super().__init__()
        self.fc1 = nn.Linear(n_obs, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, n_actions)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def linear_schedule(start, end, duration, t):
    return max(end, start + (end - start) * t / duration)


@torch.no_grad()
def evaluate(q_network, gamma):
    """Greedy runs from every free cell."""
    env = GridWorld(seed=123)
    returns, reached = [], 0
    for cell in env.free:
        obs, _ = env.reset(cell)
        total, discount, done = 0.0, 1.0, False
        while not done:
            action = q_network(torch.from_numpy(obs)).argmax().item()
            obs, reward, terminated, truncated, _ = env.step(action)
            total += discount * reward
            discount *= gamma
            done = terminated or truncated
        returns.append(total)
        reached += reward == 1.0
    return np.mean(returns), reached / len(env.free)


def train(args):
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = GridWorld(seed=args.seed)
    q_network = QNetwork(env.n_obs, env.n_actions)
    target_network = QNetwork(env.n_obs, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    updates = (args.total_timesteps - args.learning_starts) // 2
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=updates)
    buffer = ReplayBuffer(20000)

    obs, _ = env.reset()
    for step in range(1, args.total_timesteps + 1):
        epsilon = linear_schedule(1.0, 0.1, args.exploration_fraction * args.total_timesteps, step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs)).argmax().item()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        buffer.push(obs, action, reward, next_obs, terminated)
        obs = env.reset()[0] if terminated or truncated else next_obs

        if step > args.learning_starts and step % 2 == 0:
            b_obs, b_action, b_reward, b_next, b_terminated = buffer.sample(args.batch_size)
            with torch.no_grad():
                best_next = target_network(b_next).max(dim=1).values
                target = b_reward + args.gamma * best_next * (1 - b_terminated)
            value = q_network(b_obs).gather(1, b_action.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(value, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()

        if step % args.target_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())

        if step % 2000 == 0:
            mean_return, success = evaluate(q_network, args.gamma)
            print(f"step {step:6d}  epsilon {epsilon:.2f}  greedy return {mean_return:.3f}  goal reached {success:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=20000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.9)
    parser.add_argument("--exploration-fraction", type=float, default=0.5)
    parser.add_argument("--learning-starts", type=int, default=500)
    parser.add_argument("--target-frequency", type=int, default=250)
    train(parser.parse_args())
