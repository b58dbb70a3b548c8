# single-file DQN, in the style of CleanRL
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
    total_timesteps: int = 6000
    learning_rate: float = 1e-3
    buffer_size: int = 6000
    gamma: float = 0.95
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 400
    train_frequency: int = 2


class GridWorld:
    """Walk to the corner without falling into a pit; at most 30 steps."""

    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    pits = {(2, 2), (1, 3), (3, 1)}
    goal = (4, 4)
    limit = 30

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def observe(self):
        obs = np.zeros(25, dtype=np.float32)
        obs[self.place[0] * 5 + self.place[1]] = 1.0
        return obs

    def reset(self):
        free = [(r, c) for r in range(5) for c in range(5) if (r, c) not in self.pits and (r, c) != self.goal]
        self.place = free[self.rng.integers(len(free))]
        self.steps = 0
        return self.observe()

    def step(self, action):
        dr, dc = self.moves[action]
        self.place = (min(4, max(0, self.place[0] + dr)), min(4, max(0, self.place[1] + dc)))
        self.steps += 1
        terminated = self.place == self.goal or self.place in self.pits
        reward = 1.0 if self.place == self.goal else -1.0 if self.place in self.pits else -0.02
        return self.observe(), reward, terminated, self.steps >= self.limit


class ReplayBuffer:
    def __init__(self, size):
        self.obs = np.zeros((size, 25), np.float32)
        self.next_obs = np.zeros((size, 25), np.float32)
        self.actions = np.zeros((size, 1), np.int64)
        self.rewards = np.zeros(size, np.float32)
        self.dones = np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i], self.actions[i] = obs, next_obs, action
        self.rewards[i], self.dones[i] = reward, done
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, count):
        idx = np.random.randint(0, self.size if self.full else self.pos, count)
        return [torch.from_numpy(a[idx]) for a in (self.obs, self.next_obs, self.actions, self.rewards, self.dones)]


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(25, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max((end_e - start_e) / duration * t + start_e, end_e)


def evaluate(q_network, seed, episodes=30):
    env, returns = GridWorld(seed), []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    env = GridWorld(args.seed)
    q_network = QNetwork()
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size)
    start_time = time.time()

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))

        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max, _ = target_network(b_next).max(dim=1)
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
            loss = F.mse_loss(td_target, old_val)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if global_step % 1000 == 999:
            print(f"step {global_step + 1} epsilon {epsilon:.2f} greedy return {evaluate(q_network, 100):.3f} "
                  f"SPS {int(global_step / (time.time() - start_time))}")

    print(f"final greedy return {evaluate(q_network, 999, episodes=60):.3f}")
