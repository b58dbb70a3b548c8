# Double DQN with a slowly following target network, in one file, on a small grid with a goal somewhere
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
    total_timesteps: int = 9000
    learning_rate: float = 1e-3
    buffer_size: int = 9000
    gamma: float = 0.95
    tau: float = 0.01
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.6
    learning_starts: int = 500
    train_frequency: int = 2
    eval_every: int = 3000


class GridWorld:
    """Walk to the goal: 1 on arrival, -0.01 for every other step, cut off after 50 steps."""

    moves = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])

    def __init__(self, size=5, limit=50, seed=0):
        self.size, self.limit = size, limit
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        place = self.agent / (self.size - 1) * 2 - 1
        way = (self.goal - self.agent) / (self.size - 1)
        return np.concatenate([place, way]).astype(np.float32)

    def reset(self):
        cells = self.rng.choice(self.size * self.size, 2, replace=False)
        self.agent, self.goal = (np.array(divmod(int(cell), self.size)) for cell in cells)
        self.steps = 0
        return self._obs()

    def step(self, action):
        self.agent = np.clip(self.agent + self.moves[action], 0, self.size - 1)
        self.steps += 1
        terminated = bool((self.agent == self.goal).all())
        truncated = not terminated and self.steps >= self.limit
        return self._obs(), 1.0 if terminated else -0.01, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), np.float32)
        self.next_obs = np.zeros((size, obs_dim), np.float32)
        self.actions = np.zeros(size, np.int64)
        self.rewards = np.zeros(size, np.float32)
        self.terminated = np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, terminated):
        i = self.pos
        self.obs[i], self.next_obs[i], self.actions[i] = obs, next_obs, action
        self.rewards[i], self.terminated[i] = reward, terminated
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, n):
        i = np.random.randint(0, self.size if self.full else self.pos, n)
        columns = (self.obs, self.next_obs, self.actions, self.rewards, self.terminated)
        return [torch.from_numpy(column[i]) for column in columns]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max(start_e + (end_e - start_e) * t / duration, end_e)


@torch.no_grad()
def evaluate(q_network, episodes=100):
    env = GridWorld(seed=12345)
    returns, arrived = [], 0
    for _ in range(episodes):
        obs, total, done = env.reset(), 0.0, False
        while not done:
            action = int(q_network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
        arrived += terminated
    return float(np.mean(returns)), arrived / episodes


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridWorld(seed=args.seed)
    q_network = QNetwork(4, 4)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(4, 4)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 4)
    start_time = time.time()

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(
            args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step
        )
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())

        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_terminated = rb.sample(args.batch_size)
            with torch.no_grad():
                next_actions = q_network(b_next_obs).argmax(dim=1, keepdim=True)
                next_values = target_network(b_next_obs).gather(1, next_actions).squeeze(1)
                td_target = b_rewards + args.gamma * next_values * (1 - b_terminated)
            old_val = q_network(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            with torch.no_grad():
                for target_param, param in zip(target_network.parameters(), q_network.parameters()):
                    target_param.lerp_(param, args.tau)

        if (global_step + 1) % args.eval_every == 0:
            mean_return, success = evaluate(q_network)
            sps = int((global_step + 1) / (time.time() - start_time))
            print(f"step {global_step + 1}: epsilon {epsilon:.2f} return {mean_return:.3f} arrived {success:.2f} SPS {sps}")
