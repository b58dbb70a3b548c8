# Deep Q-learning from the pixels of a game of catch; in the single-file manner of CleanRL.
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
    buffer_size: int = 4000
    gamma: float = 0.97
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class Catch:
    side, actions = 8, 3

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.screen = np.zeros((1, self.side, self.side), dtype=np.float32)

    def render(self):
        self.screen[:] = 0
        self.screen[0, self.row, self.column] = 1
        self.screen[0, -1, self.paddle] = 1
        return self.screen.copy()

    def reset(self):
        self.row, self.column = 0, int(self.rng.integers(self.side))
        self.paddle = self.side // 2
        return self.render()

    def step(self, action):
        self.row += 1
        self.paddle = min(max(self.paddle + action - 1, 0), self.side - 1)
        terminated = self.row == self.side - 1
        reward = 0.0 if not terminated else 1.0 if self.paddle == self.column else -1.0
        return self.render(), reward, terminated


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(16 * env.side * env.side, 64), nn.ReLU(),
            nn.Linear(64, env.actions),
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, shape):
        self.observations = np.zeros((size, *shape), dtype=np.float32)
        self.next_observations = np.zeros((size, *shape), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos], self.next_observations[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        rows = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        fields = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(field[rows]) for field in fields]


def linear_schedule(start_e: float, end_e: float, duration: float, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(network, episodes, seed):
    env, returns = Catch(seed), []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            with torch.no_grad():
                action = network(torch.from_numpy(obs)[None]).argmax(dim=1).item()
            obs, reward, done = env.step(action)
            total += reward
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Catch(args.seed)
    q_network = QNetwork(env)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(env)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, (1, env.side, env.side))
    returns, episodic_return = [], 0.0

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(
            args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step
        )
        if random.random() < epsilon:
            action = random.randrange(env.actions)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs)[None]).argmax(dim=1).item()

        next_obs, reward, terminated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episodic_return += reward
        obs = next_obs
        if terminated:
            returns.append(episodic_return)
            episodic_return = 0.0
            obs = env.reset()

        if global_step > args.learning_starts:
            if global_step % args.train_frequency == 0:
                observations, next_observations, actions, rewards, dones = rb.sample(args.batch_size)
                with torch.no_grad():
                    target_max = target_network(next_observations).max(dim=1).values
                    td_target = rewards + args.gamma * target_max * (1 - dones)
                old_val = q_network(observations).gather(1, actions[:, None]).squeeze(1)
                loss = F.mse_loss(old_val, td_target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if (global_step + 1) % 1000 == 0:
            print(f"global_step={global_step + 1}, epsilon={epsilon:.2f}, "
                  f"return of the last 100 episodes={np.mean(returns[-100:]):.2f}")

    print("greedy return of 100 episodes:", evaluate(q_network, 100, seed=args.seed + 1))
