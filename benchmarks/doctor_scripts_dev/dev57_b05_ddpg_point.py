# DDPG in one file, in the manner of CleanRL, for a cart that has to stop at the origin
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class CartToOrigin:
    """Push a cart on a line: it costs to be away; leaving the track ends the episode, and so does a limit of steps."""

    max_steps, edge = 40, 2.0

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.steps = 0
        self.state = np.array([self.rng.uniform(-1.0, 1.0), self.rng.uniform(-0.3, 0.3)], dtype=np.float32)
        return self.state.copy()

    def step(self, action):
        force = float(np.clip(action[0], -1.0, 1.0))
        self.state[1] = 0.9 * self.state[1] + 0.3 * force
        self.state[0] += 0.3 * self.state[1]
        self.steps += 1
        reward = 1.0 - abs(float(self.state[0])) - 0.1 * force**2
        terminated = bool(abs(self.state[0]) > self.edge)
        if terminated:
            reward = -5.0
        truncated = self.steps >= self.max_steps
        return self.state.copy(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim, act_dim):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, act_dim), dtype=np.float32)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        rows = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        parts = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return tuple(torch.from_numpy(part[rows]) for part in parts)


class QNetwork(nn.Module):
    def __init__(self, obs_dim, act_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim + act_dim, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 1)

    def forward(self, x, a):
        x = torch.cat([x, a], 1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Actor(nn.Module):
    def __init__(self, obs_dim, act_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim, 64)
        self.fc_mu = nn.Linear(64, act_dim)

    def forward(self, x):
        return torch.tanh(self.fc_mu(F.relu(self.fc1(x))))


def evaluate(actor, episodes, seed):
    env, returns = CartToOrigin(seed), []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            with torch.no_grad():
                action = actor(torch.from_numpy(obs).unsqueeze(0))[0].numpy()
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=2500)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--buffer-size", type=int, default=2500)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--exploration-noise", type=float, default=0.2)
    parser.add_argument("--learning-starts", type=int, default=400)
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = CartToOrigin(args.seed)
    actor, target_actor = Actor(2, 1), Actor(2, 1)
    qf1, qf1_target = QNetwork(2, 1), QNetwork(2, 1)
    target_actor.load_state_dict(actor.state_dict())
    qf1_target.load_state_dict(qf1.state_dict())
    q_optimizer = optim.Adam(qf1.parameters(), lr=args.learning_rate)
    actor_optimizer = optim.Adam(actor.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 2, 1)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        if global_step < args.learning_starts:
            actions = np.random.uniform(-1.0, 1.0, size=1).astype(np.float32)
        else:
            with torch.no_grad():
                actions = actor(torch.from_numpy(obs).unsqueeze(0))[0].numpy()
            actions = (actions + np.random.normal(0, args.exploration_noise, size=1)).clip(-1.0, 1.0)
        next_obs, reward, terminated, truncated = env.step(actions)
        rb.add(obs, next_obs, actions, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step >= args.learning_starts:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                next_q = qf1_target(b_next_obs, target_actor(b_next_obs)).view(-1)
                td_target = b_rewards + (1 - b_dones) * args.gamma * next_q
            q_loss = F.mse_loss(qf1(b_obs, b_actions).view(-1), td_target)
            q_optimizer.zero_grad()
            q_loss.backward()
            q_optimizer.step()

            actor_loss = -qf1(b_obs, actor(b_obs)).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()

            for param, target_param in zip(actor.parameters(), target_actor.parameters()):
                target_param.data.copy_(args.tau * param.data + (1 - args.tau) * target_param.data)
            for param, target_param in zip(qf1.parameters(), qf1_target.parameters()):
                target_param.data.copy_(args.tau * param.data + (1 - args.tau) * target_param.data)

        if (global_step + 1) % 500 == 0:
            print(f"step {global_step + 1}: mean return {evaluate(actor, 10, seed=100):.2f}")


if __name__ == "__main__":
    main()
