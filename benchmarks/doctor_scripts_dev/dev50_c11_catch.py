# Deep Q-learning in one file: a ball falls, a paddle has to be where it lands
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
    total_timesteps: int = 9000
    learning_rate: float = 1e-3
    buffer_size: int = 9000
    gamma: float = 0.97
    tau: float = 0.01
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class Catch:
    rows, columns, n_actions = 8, 6, 3

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def observe(self):
        board = np.zeros((2, self.rows, self.columns), dtype=np.float32)
        board[0, self.row, self.ball] = 1.0
        board[1, self.rows - 1, self.paddle] = 1.0
        return board.reshape(-1)

    def reset(self):
        self.row = 0
        self.ball, self.paddle = self.rng.integers(self.columns), self.rng.integers(self.columns)
        return self.observe()

    def step(self, action):
        self.paddle = min(max(self.paddle + action - 1, 0), self.columns - 1)
        self.row += 1
        terminated = self.row == self.rows - 1
        reward = (1.0 if self.paddle == self.ball else -1.0) if terminated else 0.0
        return self.observe(), reward, terminated


class QNetwork(nn.Module):
    def __init__(self, n_obs, n_actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(n_obs, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, n_actions))

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, capacity, n_obs):
        self.obs, self.next_obs = np.zeros((capacity, n_obs), np.float32), np.zeros((capacity, n_obs), np.float32)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards, self.dones = np.zeros(capacity, np.float32), np.zeros(capacity, np.float32)
        self.capacity, self.pos, self.full = capacity, 0, False

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.dones[i] = obs, next_obs, action, reward, done
        self.pos = (i + 1) % self.capacity
        self.full = self.full or self.pos == 0

    def sample(self, size):
        rows = np.random.randint(0, self.capacity if self.full else self.pos, size)
        return [torch.from_numpy(a[rows]) for a in (self.obs, self.next_obs, self.actions, self.rewards, self.dones)]


def linear_schedule(start_e, end_e, duration, t):
    return max(start_e + (end_e - start_e) * t / duration, end_e)


def greedy(network, obs):
    with torch.no_grad():
        return int(network(torch.from_numpy(obs)[None]).argmax(dim=1))


def evaluate(network, episodes=200, seed=777):
    env, returns = Catch(seed), []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            obs, reward, done = env.step(greedy(network, obs))
            total += reward
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    env = Catch(args.seed)
    n_obs = 2 * env.rows * env.columns
    q_network, target_network = QNetwork(n_obs, env.n_actions), QNetwork(n_obs, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, n_obs)

    obs, episode_return, recent = env.reset(), 0.0, []
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        action = random.randrange(env.n_actions) if random.random() < epsilon else greedy(q_network, obs)
        next_obs, reward, terminated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episode_return += reward
        obs = next_obs
        if terminated:
            recent.append(episode_return)
            obs, episode_return = env.reset(), 0.0

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                chosen = q_network(b_next).argmax(dim=1, keepdim=True)
                following = target_network(b_next).gather(1, chosen).squeeze(1)
                td_target = b_rewards + args.gamma * following * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for target_param, param in zip(target_network.parameters(), q_network.parameters()):
                    target_param.lerp_(param, args.tau)

        if (global_step + 1) % 1500 == 0:
            print(f"step {global_step + 1}: epsilon {epsilon:.2f}, mean return of 100 episodes {np.mean(recent[-100:]):+.2f}")
    print(f"greedy return {evaluate(q_network):+.3f}")
