# Deep Q-learning in a single file: walk to a goal in a small room
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
    target_network_frequency: int = 250
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_steps: int = 5000
    learning_starts: int = 500
    train_frequency: int = 2


class RoomEnv:
    """A room of 6 x 6 tiles; the goal pays 1 and ends the episode, which is cut off after 30 steps."""

    size, limit, n_actions = 6, 30, 4
    moves = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def observe(self):
        return (np.concatenate([self.goal - self.agent, self.agent]) / (self.size - 1)).astype(np.float32)

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        cells = self.rng.choice(self.size**2, 2, replace=False)
        self.agent, self.goal = (np.array(divmod(int(cell), self.size)) for cell in cells)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.agent = np.clip(self.agent + self.moves[action], 0, self.size - 1)
        self.steps += 1
        terminated = bool((self.agent == self.goal).all())
        truncated = not terminated and self.steps >= self.limit
        return self.observe(), float(terminated), terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), np.float32)
        self.next_obs = np.zeros((size, obs_dim), np.float32)
        self.actions = np.zeros((size, 1), np.int64)
        self.rewards = np.zeros(size, np.float32)
        self.dones = np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, batch_size)
        fields = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(field[index]) for field in fields]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(q_network, episodes=100, seed=1000):
    env, returns, lengths = RoomEnv(), [], []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        done, total = False, 0.0
        while not done:
            with torch.no_grad():
                choice = q_network(torch.from_numpy(obs)[None]).argmax(dim=1).item()
            obs, reward, terminated, truncated, _ = env.step(choice)
            total += reward
            done = terminated or truncated
        returns.append(total)
        lengths.append(env.steps)
    return np.mean(returns), np.mean(lengths)


if __name__ == "__main__":
    args = Args()
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(args.seed)

    env = RoomEnv()
    q_network = QNetwork(4, env.n_actions)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(4, env.n_actions)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 4)

    recent = []
    obs, _ = env.reset(seed=args.seed)
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_steps, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.n_actions)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1).item()

        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            recent.append(reward)
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

        if (global_step + 1) % 2000 == 0:
            print(
                f"step {global_step + 1}: return {np.mean(recent[-50:]):.2f} "
                f"td_loss {loss.item():.5f} q {old_val.mean().item():.3f}"
            )

    mean_return, mean_length = evaluate(q_network)
    print(f"evaluation: return {mean_return:.2f}, length {mean_length:.1f}")
