# DQN in one file: a ball on a beam that tips over, pushed to the left or to the right
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
    total_timesteps: int = 10000
    learning_rate: float = 1e-3
    buffer_size: int = 10000
    gamma: float = 0.95
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.4
    learning_starts: int = 500
    train_frequency: int = 2
    eval_episodes: int = 20


class BeamEnv:
    """Reward 1 for each step. Terminated when the ball falls off, truncated after `limit` steps."""
    n_actions = 2

    def __init__(self, seed, limit=60):
        self.rng = np.random.default_rng(seed)
        self.limit = limit

    def reset(self):
        self.state = self.rng.uniform(-0.2, 0.2, size=2)
        self.steps = 0
        return self.state.astype(np.float32), {}

    def step(self, action):
        x, v = self.state
        v = v + 0.1 * (3.0 * x + (2.0 if action == 1 else -2.0))
        x = x + 0.1 * v
        self.state = np.array([x, v])
        self.steps += 1
        terminated = bool(abs(x) > 1.0)
        truncated = bool(not terminated and self.steps >= self.limit)
        return self.state.astype(np.float32), 1.0, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        rows = np.random.randint(0, self.size if self.full else self.pos, batch_size)
        columns = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(column[rows]) for column in columns]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def evaluate(network, seed, episodes, gamma):
    env = BeamEnv(seed)
    lengths, discounted, predicted = [], [], []
    for _ in range(episodes):
        obs, _ = env.reset()
        predicted.append(network(torch.from_numpy(obs)).max().item())
        rewards, over = [], False
        while not over:
            action = int(network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            over = terminated or truncated
        lengths.append(sum(rewards))
        discounted.append(sum(reward * gamma**k for k, reward in enumerate(rewards)))
    return np.mean(lengths), np.mean(discounted), np.mean(predicted)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    env = BeamEnv(args.seed)
    q_network = QNetwork(2, env.n_actions)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(2, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 2)
    returns, episodic_return = [], 0.0
    duration = args.exploration_fraction * args.total_timesteps
    print("untrained: return %.1f" % evaluate(q_network, 100, args.eval_episodes, args.gamma)[0])

    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, duration, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())
        next_obs, reward, terminated, truncated, _ = env.step(action)
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            returns.append(episodic_return)
            episodic_return = 0.0
            obs, _ = env.reset()

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max = target_network(b_next_obs).max(dim=1).values
                    td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
                old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
                loss = F.mse_loss(old_val, td_target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())
        if global_step % 2000 == 1999:
            print(f"{global_step + 1} steps: return {np.mean(returns[-20:]):.1f}, epsilon {epsilon:.2f}")

    length, discounted, predicted = evaluate(q_network, 100, args.eval_episodes, args.gamma)
    print(f"trained: return {length:.1f}, discounted {discounted:.2f}, predicted {predicted:.2f}")
