"""DDPG on a small reaching task, one file, in the manner of CleanRL."""

import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class ReachEnv:
    """Move along a line to a goal: +1 and the end when it is reached, a price for the distance before."""

    def __init__(self, seed, max_steps=50):
        self.rng = np.random.default_rng(seed)
        self.max_steps = max_steps

    def _obs(self):
        return np.array([self.position, self.goal], dtype=np.float32)

    def reset(self):
        self.position, self.goal = self.rng.uniform(-1, 1, size=2)
        while abs(self.position - self.goal) < 0.3:
            self.goal = self.rng.uniform(-1, 1)
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        self.position = float(np.clip(self.position + 0.2 * float(action[0]), -1.5, 1.5))
        self.steps += 1
        distance = abs(self.position - self.goal)
        terminated = bool(distance < 0.12)
        truncated = self.steps >= self.max_steps
        reward = 1.0 if terminated else -0.2 * distance
        return self._obs(), reward, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim, action_dim):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, action_dim), dtype=np.float32)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = float(done)
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return tuple(torch.from_numpy(a[index]) for a in arrays)


class QNetwork(nn.Module):
    def __init__(self, obs_dim, action_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim + action_dim, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 1)

    def forward(self, x, a):
        x = F.relu(self.fc1(torch.cat([x, a], 1)))
        return self.fc3(F.relu(self.fc2(x)))


class Actor(nn.Module):
    def __init__(self, obs_dim, action_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc_mu = nn.Linear(64, action_dim)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        return torch.tanh(self.fc_mu(F.relu(self.fc2(x))))


@torch.no_grad()
def evaluate(actor, seed, episodes=20):
    env, returns = ReachEnv(seed), []
    for _ in range(episodes):
        obs, _ = env.reset()
        total, over = 0.0, False
        while not over:
            action = actor(torch.from_numpy(obs)[None])[0].numpy()
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=2500)
    parser.add_argument("--learning-starts", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--exploration-noise", type=float, default=0.2)
    parser.add_argument("--target-network-frequency", type=int, default=2)
    return parser.parse_args()


def main():
    args = parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = ReachEnv(args.seed)
    actor, target_actor = Actor(2, 1), Actor(2, 1)
    qf1, qf1_target = QNetwork(2, 1), QNetwork(2, 1)
    target_actor.load_state_dict(actor.state_dict())
    qf1_target.load_state_dict(qf1.state_dict())
    q_optimizer = optim.Adam(qf1.parameters(), lr=args.learning_rate)
    actor_optimizer = optim.Adam(actor.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 2, 1)

    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        if global_step < args.learning_starts:
            action = np.random.uniform(-1, 1, size=1).astype(np.float32)
        else:
            with torch.no_grad():
                action = actor(torch.from_numpy(obs)[None])[0].numpy()
            action = np.clip(action + np.random.normal(0, args.exploration_noise, size=1), -1, 1).astype(np.float32)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()

        if global_step < args.learning_starts:
            continue
        b_obs, b_next, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
        with torch.no_grad():
            next_q = qf1_target(b_next, target_actor(b_next)).view(-1)
            next_q_value = b_rewards + (1 - b_dones) * args.gamma * next_q
        qf1_loss = F.mse_loss(qf1(b_obs, b_actions).view(-1), next_q_value)
        q_optimizer.zero_grad()
        qf1_loss.backward()
        q_optimizer.step()

        actor_loss = -qf1(b_obs, actor(b_obs)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()

        if global_step % args.target_network_frequency == 0:
            for param, target_param in zip(actor.parameters(), target_actor.parameters()):
                target_param.data.copy_(args.tau * param.data + (1 - args.tau) * target_param.data)
            for param, target_param in zip(qf1.parameters(), qf1_target.parameters()):
                target_param.data.copy_(args.tau * param.data + (1 - args.tau) * target_param.data)
        if global_step % 500 == 0:
            print(f"step {global_step} q loss {qf1_loss.item():.4f} test return {evaluate(actor, seed=1000):.3f}")
    print(f"final test return {evaluate(actor, seed=2000):.3f}")


if __name__ == "__main__":
    main()
