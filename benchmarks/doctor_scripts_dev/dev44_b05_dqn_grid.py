# docs: a single-file DQN in the style of CleanRL, with its own little environment
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
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class PitGrid:
    """6 x 6 cells: a goal in the corner (+1, the end), two pits (-1, the end), a price of 0.01 for each step."""

    side, n_actions, goal, pits, limit = 6, 4, (5, 5), {(2, 2), (3, 4)}, 40

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def _obs(self):
        obs = np.zeros(self.side * self.side, dtype=np.float32)
        obs[self.pos[0] * self.side + self.pos[1]] = 1.0
        return obs

    def reset(self):
        self.steps = 0
        while True:
            self.pos = (self.rng.randrange(self.side), self.rng.randrange(self.side))
            if self.pos != self.goal and self.pos not in self.pits:
                return self._obs()

    def step(self, action):
        dr, dc = ((-1, 0), (1, 0), (0, -1), (0, 1))[action]
        self.pos = (min(max(self.pos[0] + dr, 0), self.side - 1), min(max(self.pos[1] + dc, 0), self.side - 1))
        self.steps += 1
        terminated, reward = False, -0.01
        if self.pos == self.goal:
            terminated, reward = True, 1.0
        elif self.pos in self.pits:
            terminated, reward = True, -1.0
        truncated = not terminated and self.steps >= self.limit
        return self._obs(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.size, self.pos, self.full = size, 0, False
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards, self.dones = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.dones[i] = obs, next_obs, action, reward, done
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        return [torch.from_numpy(a[idx]) for a in (self.obs, self.next_obs, self.actions, self.rewards, self.dones)]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e: float, end_e: float, duration: float, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(q_network, episodes=60):
    env, returns, reached = PitGrid(seed=1000), [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
        reached += reward == 1.0
    return np.mean(returns), reached / episodes


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = PitGrid(seed=args.seed)
    obs_dim = env.side * env.side
    q_network = QNetwork(obs_dim, env.n_actions)
    target_network = QNetwork(obs_dim, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, obs_dim)

    obs, episode_return, recent = env.reset(), 0.0, []
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))

        next_obs, reward, terminated, truncated = env.step(action)
        episode_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            recent = (recent + [episode_return])[-50:]
            obs, episode_return = env.reset(), 0.0

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(b_next_obs).max(dim=1)
                    td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
                old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
                loss = F.mse_loss(old_val, td_target)

                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if (global_step + 1) % 1000 == 0:
            print(f"global_step={global_step + 1}, episodic_return={np.mean(recent):.3f}, epsilon={epsilon:.2f}")

    mean_return, success = evaluate(q_network)
    print(f"greedy policy: mean return {mean_return:.3f}, reaches the goal in {100 * success:.0f}% of the episodes")
