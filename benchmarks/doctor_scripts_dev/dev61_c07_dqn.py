"""DQN on a small grid with a goal that moves, single file in the manner of CleanRL."""
import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class GridEnv:
    """An agent walks to a goal on a grid. Episodes end at the goal, or are truncated after `limit` steps."""

    MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def __init__(self, size=5, limit=25, seed=0):
        self.size, self.limit = size, limit
        self.rng = np.random.default_rng(seed)

    def observe(self):
        scale = (self.size - 1) / 2
        agent, goal = self.agent / scale - 1, self.goal / scale - 1
        return np.concatenate([agent, goal]).astype(np.float32)

    def reset(self):
        self.steps = 0
        cells = self.rng.choice(self.size * self.size, size=2, replace=False)
        self.agent = np.array(divmod(int(cells[0]), self.size))
        self.goal = np.array(divmod(int(cells[1]), self.size))
        return self.observe()

    def step(self, action):
        self.steps += 1
        self.agent = np.clip(self.agent + np.array(self.MOVES[action]), 0, self.size - 1)
        terminated = bool((self.agent == self.goal).all())
        truncated = self.steps >= self.limit and not terminated
        return self.observe(), 1.0 if terminated else -0.05, terminated, truncated


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, capacity, obs_dim):
        self.obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((capacity, obs_dim), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.dones = np.zeros(capacity, dtype=np.float32)
        self.capacity, self.position, self.full = capacity, 0, False

    def add(self, obs, next_obs, action, reward, done):
        i = self.position
        self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.dones[i] = obs, next_obs, action, reward, done
        self.position = (i + 1) % self.capacity
        self.full = self.full or self.position == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.capacity if self.full else self.position, size=batch_size)
        arrays = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(array[index]) for array in arrays]


def linear_schedule(start_e, end_e, duration, t):
    return max(start_e + (end_e - start_e) / duration * t, end_e)


@torch.no_grad()
def evaluate(q_network, episodes=50):
    env, returns = GridEnv(seed=1234), []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=5000)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-starts", type=int, default=300)
    parser.add_argument("--train-frequency", type=int, default=2)
    args = parser.parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridEnv(seed=args.seed)
    q_network, target_network = QNetwork(4, 4), QNetwork(4, 4)
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 4)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(1.0, 0.05, 0.5 * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, float(terminated))
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(b_next).max(dim=1).values
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for target_param, param in zip(target_network.parameters(), q_network.parameters()):
                target_param.data.copy_(args.tau * param.data + (1.0 - args.tau) * target_param.data)
        if (global_step + 1) % 1000 == 0:
            print(f"step {global_step + 1}: epsilon {epsilon:.2f}, evaluation return {evaluate(q_network):.3f}")


if __name__ == "__main__":
    main()
