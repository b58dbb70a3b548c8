# DQN in one file, after the layout of CleanRL's dqn.py, on a small chase game
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
    total_timesteps: int = 8000
    learning_rate: float = 1e-3
    buffer_size: int = 8000
    gamma: float = 0.95
    tau: float = 1.0
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2
    max_grad_norm: float = 10.0
    eval_episodes: int = 40


class ChaseEnv:
    """A line from -1 to 1: stand on the goal. Actions: left, stay, right. Reaching the goal ends an episode."""

    n_actions, obs_dim, max_steps = 3, 2, 40

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        return np.array([self.position, self.goal], dtype=np.float32)

    def reset(self):
        self.position, self.goal = self.rng.uniform(-1, 1, size=2)
        while abs(self.position - self.goal) < 0.3:
            self.goal = self.rng.uniform(-1, 1)
        self.steps = 0
        return self._obs()

    def step(self, action):
        self.position = float(np.clip(self.position + 0.1 * (action - 1), -1, 1))
        self.steps += 1
        terminated = abs(self.position - self.goal) < 0.06
        truncated = not terminated and self.steps >= self.max_steps
        reward = 1.0 if terminated else -0.05
        return self._obs(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros((size, 1), dtype=np.float32)
        self.dones = np.zeros((size, 1), dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos], self.next_observations[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return tuple(torch.as_tensor(a[idx]) for a in arrays)


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(env.obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, env.n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e: float, end_e: float, duration: float, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(q_network, seed, episodes):
    env, returns = ChaseEnv(seed), []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            with torch.no_grad():
                action = q_network(torch.as_tensor(obs).unsqueeze(0)).argmax(dim=1).item()
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def main():
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = ChaseEnv(args.seed)
    q_network = QNetwork(env)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(env)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, env.obs_dim)
    start_time, episodic_returns, episodic_return = time.time(), [], 0.0

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = q_network(torch.as_tensor(obs).unsqueeze(0)).argmax(dim=1).item()
        next_obs, reward, terminated, truncated = env.step(action)
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            episodic_returns.append(episodic_return)
            obs, episodic_return = env.reset(), 0.0

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max, _ = target_network(b_next_obs).max(dim=1)
                td_target = b_rewards.flatten() + args.gamma * target_max * (1 - b_dones.flatten())
            old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q_network.parameters(), args.max_grad_norm)
            optimizer.step()
            if global_step % 1000 == 0:
                sps = int(global_step / (time.time() - start_time))
                print(f"step {global_step} td_loss {loss.item():.4f} q {old_val.mean().item():.3f} return {np.mean(episodic_returns[-20:]):.3f} SPS {sps}")
        if global_step % args.target_network_frequency == 0:
            for target_param, q_param in zip(target_network.parameters(), q_network.parameters()):
                target_param.data.copy_(args.tau * q_param.data + (1.0 - args.tau) * target_param.data)
    print("eval return:", evaluate(q_network, args.seed + 100, args.eval_episodes))


if __name__ == "__main__":
    main()
