"""DQN in one file on a small frozen pond: walk to the far corner, keep away from the holes."""

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
    gamma: float = 0.97
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class Pond:
    """A square of 5 x 5 fields. Ends in a hole (-1) or at the goal (+1); a limit of steps cuts it off."""

    MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
    HOLES = {(1, 1), (1, 3), (3, 1), (3, 3)}

    def __init__(self, size=5, limit=40, seed=0):
        self.size, self.limit = size, limit
        self.goal = (size - 1, size - 1)
        self.rng = np.random.default_rng(seed)
        fields = [(r, c) for r in range(size) for c in range(size)]
        self.starts = [f for f in fields if f not in self.HOLES and f != self.goal]

    def observe(self):
        obs = np.zeros(2 * self.size, dtype=np.float32)
        obs[self.pos[0]] = 1.0
        obs[self.size + self.pos[1]] = 1.0
        return obs

    def reset(self):
        self.pos = self.starts[self.rng.integers(len(self.starts))]
        self.steps = 0
        return self.observe()

    def step(self, action):
        dr, dc = self.MOVES[action]
        row = min(max(self.pos[0] + dr, 0), self.size - 1)
        col = min(max(self.pos[1] + dc, 0), self.size - 1)
        self.pos = (row, col)
        self.steps += 1
        if self.pos == self.goal:
            return self.observe(), 1.0, True, False
        if self.pos in self.HOLES:
            return self.observe(), -1.0, True, False
        return self.observe(), -0.02, False, self.steps >= self.limit


class ReplayBuffer:
    def __init__(self, capacity, obs_dim):
        self.obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.dones = np.zeros(capacity, dtype=np.float32)
        self.capacity, self.count = capacity, 0

    def add(self, obs, next_obs, action, reward, done):
        i = self.count % self.capacity
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.count += 1

    def sample(self, batch_size):
        idx = np.random.randint(0, min(self.count, self.capacity), size=batch_size)
        parts = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(part[idx]) for part in parts]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        hidden = [nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
        self.network = nn.Sequential(*hidden, nn.Linear(64, n_actions))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def greedy(network, obs):
    return int(network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))


def evaluate(network, episodes=60):
    env, returns, solved = Pond(seed=1000), [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            obs, reward, terminated, truncated = env.step(greedy(network, obs))
            total += reward
            over = terminated or truncated
        returns.append(total)
        solved += env.pos == env.goal
    return float(np.mean(returns)), solved / episodes


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Pond(seed=args.seed)
    q_network = QNetwork(2 * env.size, len(env.MOVES))
    target_network = QNetwork(2 * env.size, len(env.MOVES))
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 2 * env.size)
    obs, episode_return, finished = env.reset(), 0.0, []
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        action = random.randrange(len(env.MOVES)) if random.random() < epsilon else greedy(q_network, obs)
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episode_return += reward
        obs = next_obs
        if terminated or truncated:
            finished.append(episode_return)
            obs, episode_return = env.reset(), 0.0
        if global_step >= args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max = target_network(b_next_obs).max(dim=1).values
                    td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
                old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
                loss = F.mse_loss(old_val, td_target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if (global_step + 1) % 2000 == 0:
            mean_return, success = evaluate(q_network)
            recent = np.mean(finished[-50:])
            print(f"step {global_step + 1}: eps {epsilon:.2f}, training {recent:.2f}, greedy {mean_return:.2f}, solved {success:.0%}")
