"""DQN in one file, on a small grid with a pit: +1 at the goal, -1 in the pit, a small cost for each step."""
import random
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 6000
    learning_rate: float = 1e-3
    buffer_size: int = 4000
    gamma: float = 0.95
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class GridEnv:
    """5 x 5 cells; an episode ends at the goal or in a pit, and is cut off after 40 steps."""

    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    goal, pits = (4, 4), {(1, 3), (2, 1)}

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def _obs(self):
        obs = np.zeros(25, dtype=np.float32)
        obs[self.pos[0] * 5 + self.pos[1]] = 1.0
        return obs

    def reset(self):
        self.pos, self.t, self.score = (self.rng.randint(0, 1), self.rng.randint(0, 1)), 0, 0.0
        return self._obs(), {}

    def step(self, action):
        if self.rng.random() < 0.02:
            action = self.rng.randrange(4)  # slippery
        self.pos = tuple(min(4, max(0, p + d)) for p, d in zip(self.pos, self.moves[action]))
        self.t += 1
        terminated = self.pos == self.goal or self.pos in self.pits
        reward = 1.0 if self.pos == self.goal else -1.0 if self.pos in self.pits else -0.02
        self.score += reward
        return self._obs(), reward, terminated, self.t >= 40 and not terminated, {"score": self.score}


class ReplayBuffer:
    def __init__(self, size):
        self.storage = deque(maxlen=size)

    def add(self, *transition):
        self.storage.append(transition)

    def sample(self, n):
        columns = zip(*random.sample(self.storage, n))
        obs, next_obs, actions, rewards, dones = (np.array(c) for c in columns)
        as_float = lambda a: torch.as_tensor(a, dtype=torch.float32)
        return as_float(obs), as_float(next_obs), torch.as_tensor(actions), as_float(rewards), as_float(dones)


class QNetwork(nn.Module):
    def __init__(self, n_obs=25, n_actions=4):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(n_obs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e: float, end_e: float, duration: float, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(network, episodes=100):
    env, returns, wins = GridEnv(999), [], 0
    for _ in range(episodes):
        obs, _ = env.reset()
        done = False
        while not done:
            with torch.no_grad():
                action = network(torch.from_numpy(obs)[None]).argmax(1).item()
            obs, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
        returns.append(info["score"])
        wins += env.pos == env.goal
    return np.mean(returns), wins / episodes


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = GridEnv(args.seed)
    q_network = QNetwork()
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size)
    start_time, recent = time.time(), deque(maxlen=30)
    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            action = q_network(torch.from_numpy(obs)[None]).argmax(1).item()
        next_obs, reward, terminated, truncated, info = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)  # a cut episode goes on, as far as values know
        obs = next_obs
        if terminated or truncated:
            recent.append(info["score"])
            obs, _ = env.reset()
        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            s, s_next, a, r, d = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max, _ = target_network(s_next).max(dim=1)
                td_target = r + args.gamma * target_max * (1 - d)
            old_val = q_network(s).gather(1, a.unsqueeze(1)).squeeze(1)
            loss = F.mse_loss(td_target, old_val)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if global_step % 1000 == 0:
                print(f"step {global_step} loss {loss.item():.4f} q {old_val.mean().item():.3f} "
                      f"return {np.mean(recent):.3f} eps {epsilon:.2f} SPS {int(global_step / (time.time() - start_time))}")
        if global_step % args.target_network_frequency == 0:
            target_network.load_state_dict(q_network.state_dict())
    score, wins = evaluate(q_network)
    print(f"greedy return {score:.3f} reaches the goal {wins:.2f}")
