# DQN on a small cliff walk, single file. The environment has gymnasium's interface.
import random
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
    buffer_size: int = 8000
    gamma: float = 0.95
    tau: float = 1.0
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class CliffWalk:
    """4 x 5 cells, start at the lower left, goal (+1) at the lower right, between them the cliff (-1)."""

    rows, columns, num_actions, max_steps = 4, 5, 4, 50
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def observe(self):
        observation = np.zeros(self.rows + self.columns, dtype=np.float32)
        observation[self.row] = 1.0
        observation[self.rows + self.column] = 1.0
        return observation

    def reset(self):
        self.row, self.column, self.steps = self.rows - 1, 0, 0
        return self.observe(), {}

    def step(self, action):
        down, right = self.moves[action]
        self.row = min(max(self.row + down, 0), self.rows - 1)
        self.column = min(max(self.column + right, 0), self.columns - 1)
        self.steps += 1
        at_bottom = self.row == self.rows - 1
        goal = at_bottom and self.column == self.columns - 1
        fallen = at_bottom and 0 < self.column < self.columns - 1
        reward = 1.0 if goal else -1.0 if fallen else 0.0
        return self.observe(), reward, goal or fallen, self.steps >= self.max_steps, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(array[index]) for array in arrays]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, num_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, num_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max((end_e - start_e) / duration * t + start_e, end_e)


def evaluate(q_network):
    """The return of one greedy episode; the environment is deterministic."""
    env, total, finished = CliffWalk(), 0.0, False
    obs, _ = env.reset()
    while not finished:
        with torch.no_grad():
            obs, reward, terminated, truncated, _ = env.step(int(q_network(torch.from_numpy(obs)).argmax()))
        total += reward
        finished = terminated or truncated
    return total


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = CliffWalk()
    obs_dim = env.rows + env.columns
    q_network = QNetwork(obs_dim, env.num_actions)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(obs_dim, env.num_actions)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, obs_dim)

    episodic_returns, episodic_return = [], 0.0
    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        duration = args.exploration_fraction * args.total_timesteps
        epsilon = linear_schedule(args.start_e, args.end_e, duration, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.num_actions)
        else:
            with torch.no_grad():
                action = int(torch.argmax(q_network(torch.from_numpy(obs))))

        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        episodic_return += reward
        if terminated or truncated:
            episodic_returns.append(episodic_return)
            obs, _ = env.reset()
            episodic_return = 0.0

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
            loss = F.mse_loss(td_target, old_val)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if global_step % 1000 == 0:
                recent = np.mean(episodic_returns[-20:])
                print(f"{global_step=} epsilon={epsilon:.2f} td_loss={loss.item():.4f} return={recent:.2f}")

        if global_step % args.target_network_frequency == 0:
            for target_param, param in zip(target_network.parameters(), q_network.parameters()):
                target_param.data.copy_(args.tau * param.data + (1.0 - args.tau) * target_param.data)

    print(f"evaluation: return {evaluate(q_network):.2f}")
