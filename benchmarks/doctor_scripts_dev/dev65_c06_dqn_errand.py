"""DQN in one file, after CleanRL: a courier has to reach a corner before a deadline that it can see."""

import random
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
    total_timesteps: int = 4000
    learning_rate: float = 1e-3
    buffer_size: int = 4000
    gamma: float = 0.95
    target_network_frequency: int = 100
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 300
    train_frequency: int = 2
    eval_frequency: int = 1000


class Errand:
    """A 5 x 5 yard. The shop shuts after `deadline` steps: this is the end of the task, not a limit of the simulator,
    and the time that is left is part of the observation."""

    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))
    size, deadline = 5, 16

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def observe(self):
        obs = np.zeros(self.size**2 + 1, dtype=np.float32)
        obs[self.row * self.size + self.col] = 1.0
        obs[-1] = self.left / self.deadline
        return obs

    def reset(self):
        while True:
            self.row, self.col = (int(v) for v in self.rng.integers(0, self.size, 2))
            if (self.row, self.col) != (self.size - 1, self.size - 1):
                break
        self.left = self.deadline
        return self.observe()

    def step(self, action):
        dr, dc = self.moves[action]
        self.row = min(max(self.row + dr, 0), self.size - 1)
        self.col = min(max(self.col + dc, 0), self.size - 1)
        self.left -= 1
        arrived = (self.row, self.col) == (self.size - 1, self.size - 1)
        reward = 1.0 if arrived else -0.05
        return self.observe(), reward, arrived or self.left == 0


class QNetwork(nn.Module):
    def __init__(self, n_obs, n_actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(n_obs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def sample(buffer, batch_size):
    batch = random.sample(buffer, batch_size)
    obs, actions, rewards, next_obs, dones = zip(*batch)
    return (
        torch.as_tensor(np.stack(obs)),
        torch.as_tensor(actions, dtype=torch.long).unsqueeze(1),
        torch.as_tensor(rewards, dtype=torch.float32),
        torch.as_tensor(np.stack(next_obs)),
        torch.as_tensor(dones, dtype=torch.float32),
    )


@torch.no_grad()
def evaluate(q_network, episodes=20, seed=1000):
    env = Errand(seed)
    returns = []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            action = int(q_network(torch.as_tensor(obs).unsqueeze(0)).argmax(dim=1))
            obs, reward, done = env.step(action)
            total += reward
        returns.append(total)
    return float(np.mean(returns))


def main():
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Errand(args.seed)
    n_obs, n_actions = env.size**2 + 1, len(env.moves)
    q_network = QNetwork(n_obs, n_actions)
    target_network = QNetwork(n_obs, n_actions)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = deque(maxlen=args.buffer_size)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(
            args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step
        )
        if random.random() < epsilon:
            action = random.randrange(n_actions)
        else:
            with torch.no_grad():
                action = int(q_network(torch.as_tensor(obs).unsqueeze(0)).argmax(dim=1))
        next_obs, reward, done = env.step(action)
        rb.append((obs, action, reward, next_obs, done))
        obs = env.reset() if done else next_obs

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_actions, b_rewards, b_next_obs, b_dones = sample(rb, args.batch_size)
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
        if (global_step + 1) % args.eval_frequency == 0:
            print(f"step {global_step + 1}  epsilon {epsilon:.2f}  eval return {evaluate(q_network):.3f}")


if __name__ == "__main__":
    main()
