"""DDPG on a small reaching task, one file, in the manner of CleanRL's ddpg_continuous_action.py."""

import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

LEARNING_STARTS, POLICY_FREQUENCY = 300, 2


class ReachEnv:
    """A point in a square is pushed towards the middle; reaching it pays 1 and ends the episode, a step costs a tenth
    of the distance at which it begins."""

    def __init__(self, seed, max_steps=40):
        self.rng, self.max_steps = np.random.default_rng(seed), max_steps

    def reset(self):
        self.steps = 0
        self.position = self.rng.uniform(-1, 1, 2).astype(np.float32)
        return self.position.copy()

    def step(self, action):
        self.steps += 1
        cost = 0.1 * float(np.linalg.norm(self.position))
        self.position += 0.15 * np.clip(action, -1, 1)
        np.clip(self.position, -1, 1, out=self.position)
        terminated = float(np.linalg.norm(self.position)) < 0.2
        truncated = not terminated and self.steps >= self.max_steps
        reward = 1.0 if terminated else -cost
        return self.position.copy(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim, action_dim):
        self.observations, self.next_observations = (np.zeros((size, obs_dim), np.float32) for _ in range(2))
        self.actions = np.zeros((size, action_dim), np.float32)
        self.rewards, self.dones = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos], self.next_observations[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return tuple(torch.from_numpy(array[index]) for array in arrays)


class QNetwork(nn.Module):
    def __init__(self, obs_dim, action_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim + action_dim, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 1)

    def forward(self, x, a):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(torch.cat([x, a], 1))))))


class Actor(nn.Module):
    def __init__(self, obs_dim, action_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc_mu = nn.Linear(64, action_dim)

    def forward(self, x):
        return torch.tanh(self.fc_mu(F.relu(self.fc2(F.relu(self.fc1(x))))))


@torch.no_grad()
def evaluate(actor, episodes=20, seed=1000):
    env, returns = ReachEnv(seed), []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            action = actor(torch.from_numpy(obs).unsqueeze(0))[0].numpy()
            obs, reward, terminated, truncated = env.step(action)
            done = terminated or truncated
            total += reward
        returns.append(total)
    return float(np.mean(returns))


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=3000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=5000)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--target-frequency", type=int, default=50, help="steps between copies to the targets")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--exploration-noise", type=float, default=0.3)
    return parser.parse_args()


def main():
    args = parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = ReachEnv(args.seed)
    actor, qf1 = Actor(2, 2), QNetwork(2, 2)
    target_actor, qf1_target = Actor(2, 2), QNetwork(2, 2)
    target_actor.load_state_dict(actor.state_dict())
    qf1_target.load_state_dict(qf1.state_dict())
    q_optimizer = optim.Adam(qf1.parameters(), lr=args.learning_rate)
    actor_optimizer = optim.Adam(actor.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 2, 2)

    start_time = time.time()
    obs = env.reset()
    for global_step in range(args.total_timesteps):
        if global_step < LEARNING_STARTS:
            action = np.random.uniform(-1, 1, 2).astype(np.float32)
        else:
            with torch.no_grad():
                action = actor(torch.from_numpy(obs).unsqueeze(0))[0].numpy()
            action = (action + np.random.normal(0, args.exploration_noise, 2)).clip(-1, 1).astype(np.float32)
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step > LEARNING_STARTS:
            observations, next_observations, actions, rewards, dones = rb.sample(args.batch_size)
            with torch.no_grad():
                next_q = qf1_target(next_observations, target_actor(next_observations)).view(-1)
                next_q_value = rewards + (1 - dones) * args.gamma * next_q
            qf1_a_values = qf1(observations, actions).view(-1)
            qf1_loss = F.mse_loss(qf1_a_values, next_q_value)
            q_optimizer.zero_grad()
            qf1_loss.backward()
            q_optimizer.step()

            if global_step % POLICY_FREQUENCY == 0:
                actor_loss = -qf1(observations, actor(observations)).mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()

            if global_step % args.target_frequency == 0:
                target_actor.load_state_dict(actor.state_dict())
                qf1_target.load_state_dict(qf1.state_dict())

        if (global_step + 1) % 500 == 0:
            sps = (global_step + 1) / (time.time() - start_time)
            print(f"global_step={global_step + 1}, eval_return={evaluate(actor):.3f}, SPS={sps:.0f}")


if __name__ == "__main__":
    main()
