# Deep Q-learning in one file, after the single-file implementations of CleanRL.
# The environment is an inverted stick, pushed left or right; a reward of 1 for each step that it stands.
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
    total_timesteps: int = 5000
    learning_rate: float = 1e-3
    buffer_size: int = 5000
    gamma: float = 0.95
    tau: float = 0.02
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500


class BalanceEnv:
    num_actions = 2
    obs_dim = 2

    def __init__(self, max_steps=50, seed=0):
        self.max_steps = max_steps
        self.rng = np.random.default_rng(seed)

    def _observe(self):
        return np.array([2.0 * self.angle, 0.5 * self.speed], dtype=np.float32)

    def reset(self):
        self.angle, self.speed = self.rng.uniform(-0.1, 0.1, size=2)
        self.steps = 0
        return self._observe()

    def step(self, action):
        push = 8.0 if action == 1 else -8.0
        self.speed += 0.05 * (6.0 * self.angle + push)
        self.angle += 0.05 * self.speed
        self.steps += 1
        terminated = bool(abs(self.angle) > 0.5)
        truncated = bool(not terminated and self.steps >= self.max_steps)
        return self._observe(), 1.0, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.obs[self.pos], self.next_obs[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, float(done)
        self.pos += 1
        if self.pos == self.size:
            self.pos, self.full = 0, True

    def sample(self, batch_size):
        ix = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        names = ("obs", "next_obs", "actions", "rewards", "dones")
        return {name: torch.from_numpy(getattr(self, name)[ix]) for name in names}


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(env.obs_dim, 64), nn.ReLU(),
            nn.Linear(64, 64), nn.ReLU(),
            nn.Linear(64, env.num_actions),
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def evaluate(q_network, episodes=10):
    env = BalanceEnv(max_steps=200, seed=99)
    returns = []
    for _ in range(episodes):
        obs, finished, total = env.reset(), False, 0.0
        while not finished:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)).argmax())
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            finished = terminated or truncated
        returns.append(total)
    return np.mean(returns)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    env = BalanceEnv(seed=args.seed)
    q_network = QNetwork(env)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(env)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, env.obs_dim)

    obs = env.reset()
    episode_return, recent = 0.0, []
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(env.num_actions)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))

        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        episode_return += reward
        obs = next_obs
        if terminated or truncated:
            recent = (recent + [episode_return])[-20:]
            obs, episode_return = env.reset(), 0.0

        if global_step > args.learning_starts:
            data = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max, _ = target_network(data["next_obs"]).max(dim=1)
                td_target = data["rewards"] + args.gamma * target_max * (1 - data["dones"])
            old_val = q_network(data["obs"]).gather(1, data["actions"]).squeeze(1)
            loss = F.mse_loss(old_val, td_target)

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            for target_param, param in zip(target_network.parameters(), q_network.parameters()):
                target_param.data.copy_(args.tau * param.data + (1.0 - args.tau) * target_param.data)

            if global_step % 500 == 0:
                print(f"step={global_step} td_loss={loss.item():.4f} q={old_val.mean().item():.2f} "
                      f"return={np.mean(recent):.1f} epsilon={epsilon:.2f}")

    print(f"greedy return over 10 episodes (at most 200): {evaluate(q_network):.1f}")
