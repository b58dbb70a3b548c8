# DQN after CleanRL's dqn.py, with an environment and a replay buffer of its own
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
    total_timesteps: int = 8000
    learning_rate: float = 1e-3
    gamma: float = 0.95
    target_network_frequency: int = 100
    batch_size: int = 64
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 400
    train_frequency: int = 2


class Rink:  # walls (#), holes (O, -1), a goal (G, +1); 40 steps at most
    layout = ["S....", ".#.O.", "...#.", "O.#..", "..O.G"]
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    num_actions, num_cells, limit = 4, 25, 40

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.free = [(r, c) for r in range(5) for c in range(5) if self.layout[r][c] in "S."]

    def observe(self):
        obs = np.zeros(self.num_cells, dtype=np.float32)
        obs[5 * self.row + self.col] = 1.0
        return obs

    def reset(self, cell=None):
        self.row, self.col = cell or self.rng.choice(self.free)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        row = min(max(self.row + self.moves[action][0], 0), 4)
        col = min(max(self.col + self.moves[action][1], 0), 4)
        if self.layout[row][col] != "#":
            self.row, self.col = row, col
        self.steps += 1
        cell = self.layout[self.row][self.col]
        reward = {"G": 1.0, "O": -1.0}.get(cell, -0.01)
        terminated = cell in "GO"
        truncated = self.steps >= self.limit and not terminated
        return self.observe(), reward, terminated, truncated, {}


Samples = namedtuple("Samples", "observations next_observations actions rewards dones")


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros((size, 1), dtype=np.float32)
        self.dones = np.zeros((size, 1), dtype=np.float32)
        self.pos = 0

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos], self.next_observations[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, float(done)
        self.pos += 1

    def sample(self, batch_size):
        idx = np.random.randint(0, self.pos, size=batch_size)
        fields = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return Samples(*(torch.from_numpy(field[idx]) for field in fields))


def make_q_network(env, hidden=64):
    return nn.Sequential(
        nn.Linear(env.num_cells, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, env.num_actions),
    )


@torch.no_grad()
def evaluate(q_network, gamma):
    """Greedy play from every free cell: goals reached, and how far the promised values are from what came."""
    env, goals, gaps = Rink(0), [], []
    for cell in env.free:
        obs, _ = env.reset(cell)
        promised = q_network(torch.from_numpy(obs)).max().item()
        discounted, discount, over = 0.0, 1.0, False
        while not over:
            action = int(q_network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated, _ = env.step(action)
            discounted, discount = discounted + discount * reward, discount * gamma
            over = terminated or truncated
        goals.append(reward == 1.0)
        gaps.append(abs(promised - discounted))
    return np.mean(goals), np.mean(gaps)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Rink(args.seed)
    q_network, target_network = make_q_network(env), make_q_network(env)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.total_timesteps, env.num_cells)

    episodic_return, recent = 0.0, []
    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = max(1.0 - global_step / (args.exploration_fraction * args.total_timesteps), args.end_e)
        if random.random() < epsilon:
            action = random.randrange(env.num_actions)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())

        next_obs, reward, terminated, truncated, _ = env.step(action)
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            recent.append(episodic_return)
            episodic_return = 0.0
            obs, _ = env.reset()

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            data = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max, _ = target_network(data.next_observations).max(dim=1)
                td_target = data.rewards.flatten() + args.gamma * target_max * (1 - data.dones.flatten())
            old_val = q_network(data.observations).gather(1, data.actions).squeeze(1)
            loss = F.mse_loss(td_target, old_val)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
        if global_step % 1000 == 999:
            print(f"global_step={global_step + 1}, epsilon={epsilon:.2f}, return={np.mean(recent[-30:]):.3f}")

    success, gap = evaluate(q_network, args.gamma)
    print(f"greedy play: goal reached {success:.2f}, gap of value and discounted return {gap:.3f}")
