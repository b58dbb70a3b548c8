# DQN on a pole to be balanced; layout after CleanRL's dqn.py, environment written out so that gym is not needed
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
    buffer_size: int = 8000
    gamma: float = 0.95
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.4
    learning_starts: int = 500
    train_frequency: int = 2


class Balance:
    """Push left (0) or right (1). Over when the pole leans too far; cut off after 100 steps. One point a step."""

    limit, horizon, dt = 0.5, 100, 0.05

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def observe(self):
        return (self.state * np.array([2.0, 1.0])).astype(np.float32)

    def reset(self):
        self.state, self.steps = self.rng.uniform(-0.1, 0.1, size=2), 0
        return self.observe()

    def step(self, action):
        angle, speed = self.state
        push = 4.0 if action == 1 else -4.0
        speed = speed + self.dt * (6.0 * np.sin(angle) + push) + 0.02 * self.rng.normal()
        angle = angle + self.dt * speed
        self.state, self.steps = np.array([angle, speed]), self.steps + 1
        terminated = bool(abs(angle) > self.limit)
        truncated = not terminated and self.steps >= self.horizon
        return self.observe(), 1.0, terminated, truncated


Samples = namedtuple("Samples", "observations next_observations actions rewards dones")


class ReplayBuffer:
    def __init__(self, size):
        self.observations = np.zeros((size, 2), dtype=np.float32)
        self.next_observations = np.zeros((size, 2), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.count = size, 0, 0

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        self.pos = (self.pos + 1) % self.size
        self.count = min(self.count + 1, self.size)

    def sample(self, batch_size):
        idx = np.random.randint(0, self.count, size=batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return Samples(*(torch.as_tensor(array[idx]) for array in arrays))


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


@torch.no_grad()
def evaluate(q_network, episodes, seed):
    env, returns = Balance(seed), []
    for _ in range(episodes):
        obs, over, total = env.reset(), False, 0.0
        while not over:
            action = int(q_network(torch.as_tensor(obs)[None]).argmax(dim=1))
            obs, reward, terminated, truncated = env.step(action)
            over = terminated or truncated
            total += reward
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = Balance(args.seed)
    q_network, target_network = QNetwork(), QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size)
    duration = args.exploration_fraction * args.total_timesteps
    returns, episodic_return = [], 0.0
    print(f"return before training: {evaluate(q_network, 20, seed=100):.1f}")

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, duration, global_step)
        if random.random() < epsilon:
            action = random.randrange(2)
        else:
            with torch.no_grad():
                action = int(q_network(torch.as_tensor(obs)[None]).argmax(dim=1))

        next_obs, reward, terminated, truncated = env.step(action)
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            returns.append(episodic_return)
            obs, episodic_return = env.reset(), 0.0

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                data = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max, _ = target_network(data.next_observations).max(dim=1)
                    td_target = data.rewards + args.gamma * target_max * (1 - data.dones)
                old_val = q_network(data.observations).gather(1, data.actions).squeeze(1)
                loss = F.mse_loss(old_val, td_target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

            if global_step % 1000 == 0:
                print(f"{global_step}: loss {loss.item():.3f}, epsilon {epsilon:.2f}, "
                      f"mean return {np.mean(returns[-20:]):.1f}, Q {old_val.mean().item():.2f}")

    print(f"return after training: {evaluate(q_network, 20, seed=100):.1f} of {Balance.horizon}")
