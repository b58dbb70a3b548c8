# DQN on a small grid world, in the one-file manner of CleanRL
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
    total_timesteps: int = 7000
    learning_rate: float = 1e-3
    buffer_size: int = 5000
    gamma: float = 0.95
    target_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class GridWorld:
    """Walk to the corner, around two pits. Every step costs a little; after 40 steps time is up."""

    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, seed=0, size=5, limit=40):
        self.size, self.limit = size, limit
        self.goal, self.pits = (size - 1, size - 1), {(1, 3), (3, 1)}
        self.rng = np.random.default_rng(seed)
        self.starts = [(r, c) for r in range(size) for c in range(size) if (r, c) != self.goal and (r, c) not in self.pits]

    def observe(self):
        obs = np.zeros(self.size * self.size, dtype=np.float32)
        obs[self.position[0] * self.size + self.position[1]] = 1.0
        return obs

    def reset(self, start=None):
        self.position = start if start is not None else self.starts[self.rng.integers(len(self.starts))]
        self.time = 0
        return self.observe()

    def step(self, action):
        row, col = self.position
        down, right = self.moves[action]
        self.position = (min(max(row + down, 0), self.size - 1), min(max(col + right, 0), self.size - 1))
        self.time += 1
        if self.position == self.goal:
            return self.observe(), 1.0, True, False
        if self.position in self.pits:
            return self.observe(), -1.0, True, False
        return self.observe(), -0.02, False, self.time >= self.limit


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

    def sample(self, n):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=n)
        return [torch.from_numpy(a[idx]) for a in (self.obs, self.next_obs, self.actions, self.rewards, self.terminations)]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max(start_e + (end_e - start_e) / duration * t, end_e)


@torch.no_grad()
def evaluate(network, env):
    returns, reached = [], 0
    for start in env.starts:
        obs, total, done = env.reset(start), 0.0, False
        while not done:
            action = int(network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
        reached += env.position == env.goal
    return float(np.mean(returns)), reached / len(env.starts)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env, eval_env = GridWorld(seed=args.seed), GridWorld(seed=args.seed + 1)
    q_network = QNetwork(env.size**2, len(env.moves))
    target_network = QNetwork(env.size**2, len(env.moves))
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, env.size**2)

    obs, episodic_return, finished = env.reset(), 0.0, []
    for global_step in range(1, args.total_timesteps + 1):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(len(env.moves))
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episodic_return += reward
        obs = next_obs
        if terminated or truncated:
            finished.append(episodic_return)
            obs, episodic_return = env.reset(), 0.0

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_terminations = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_terminations)
            old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if global_step % args.target_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if global_step % 1000 == 0:
            mean_return, success = evaluate(q_network, eval_env)
            print(f"step {global_step}  epsilon {epsilon:.2f}  train return {np.mean(finished[-50:]):.3f}  "
                  f"greedy return {mean_return:.3f}  success {success:.2f}")
