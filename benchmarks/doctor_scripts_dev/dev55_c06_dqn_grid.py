"""Deep Q-learning in a small grid with a goal and a pit."""
import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Grid:
    """Five by five cells; the goal pays 1, the pit costs 1, each step 0.02. Both end the episode."""

    size, goal, pit, limit = 5, (4, 4), (2, 2), 40
    moves = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def observe(self):
        observation = np.zeros(self.size * self.size, dtype=np.float32)
        observation[self.place[0] * self.size + self.place[1]] = 1.0
        return observation

    def reset(self):
        self.steps = 0
        while True:
            self.place = tuple(int(v) for v in self.rng.integers(0, self.size, 2))
            if self.place not in (self.goal, self.pit):
                return self.observe()

    def step(self, action):
        self.steps += 1
        row, column = self.place[0] + self.moves[action][0], self.place[1] + self.moves[action][1]
        self.place = (min(max(row, 0), self.size - 1), min(max(column, 0), self.size - 1))
        terminated = self.place in (self.goal, self.pit)
        reward = {self.goal: 1.0, self.pit: -1.0}.get(self.place, -0.02)
        truncated = self.steps >= self.limit and not terminated
        return self.observe(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, capacity, dim):
        self.obs = np.zeros((capacity, dim), dtype=np.float32)
        self.next_obs = np.zeros((capacity, dim), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.dones = np.zeros(capacity, dtype=np.float32)
        self.capacity, self.pos, self.size = capacity, 0, 0

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.dones[i] = obs, next_obs, action, reward, done
        self.pos = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size, batch_size)
        arrays = self.obs[idx], self.next_obs[idx], self.actions[idx], self.rewards[idx], self.dones[idx]
        return tuple(torch.from_numpy(a) for a in arrays)


class QNetwork(nn.Module):
    def __init__(self, dim, actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, actions))

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max(start_e + (end_e - start_e) * t / duration, end_e)


@torch.no_grad()
def evaluate(q_network, episodes=20):
    env = Grid(seed=1000)
    returns = []
    for _ in range(episodes):
        obs, total, ended = env.reset(), 0.0, False
        while not ended:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax(1))
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            ended = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=4000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=4000)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--target-network-frequency", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-starts", type=int, default=200)
    parser.add_argument("--train-frequency", type=int, default=2)
    args = parser.parse_args()

    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Grid(args.seed)
    q_network = QNetwork(25, 4)
    target_network = QNetwork(25, 4)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 25)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(1.0, 0.05, args.total_timesteps // 2, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(1))
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 500 == 0:
            print(f"step {global_step + 1}: epsilon {epsilon:.2f}, evaluation return {evaluate(q_network):.3f}")


if __name__ == "__main__":
    main()
