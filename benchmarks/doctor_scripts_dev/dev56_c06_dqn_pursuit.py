"""Double DQN, in the style of CleanRL, that follows a wandering target on a line for a fixed number of steps."""

import argparse
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Pursuit:
    """Observation: own place, target's place, the target's speed, time left. An episode has exactly `horizon` steps.

    The horizon belongs to the task, and the time left is observed, so its end is a termination.
    """

    moves = (-0.2, 0.0, 0.2)

    def __init__(self, seed, horizon=12):
        self.rng = np.random.default_rng(seed)
        self.horizon = horizon

    def observe(self):
        left = 1 - self.t / self.horizon
        return np.array([self.place, self.target, 10 * self.speed, left], dtype=np.float32)

    def reset(self):
        self.t = 0
        self.place, self.target = self.rng.uniform(-1, 1, 2)
        self.speed = self.rng.uniform(-0.1, 0.1)
        return self.observe()

    def step(self, action):
        self.place = float(np.clip(self.place + self.moves[action], -1.5, 1.5))
        self.target += self.speed
        if abs(self.target) > 1:
            self.speed = -self.speed
        self.t += 1
        reward = 0.5 - abs(self.place - self.target)
        return self.observe(), reward, self.t >= self.horizon


class QNetwork(nn.Module):
    def __init__(self, obs=4, actions=3, hidden=64):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, obs=4):
        self.size, self.next, self.full = size, 0, False
        self.obs = torch.zeros(size, obs)
        self.next_obs = torch.zeros(size, obs)
        self.actions = torch.zeros(size, dtype=torch.long)
        self.rewards = torch.zeros(size)
        self.dones = torch.zeros(size)

    def add(self, obs, action, reward, next_obs, done):
        i = self.next
        self.obs[i], self.next_obs[i] = torch.from_numpy(obs), torch.from_numpy(next_obs)
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, float(done)
        self.next = (i + 1) % self.size
        self.full = self.full or self.next == 0

    def sample(self, count):
        i = torch.randint(self.size if self.full else self.next, (count,))
        return self.obs[i], self.actions[i], self.rewards[i], self.next_obs[i], self.dones[i]


def linear_schedule(start, end, duration, step):
    return max(end, start + (end - start) * step / duration)


@torch.no_grad()
def evaluate(q_network, episodes=20, seed=1000):
    env = Pursuit(seed)
    total = 0.0
    for _ in range(episodes):
        obs, done = env.reset(), False
        while not done:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, reward, done = env.step(action)
            total += reward
    return total / episodes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--total-timesteps", type=int, default=3600)
    parser.add_argument("--learning-starts", type=int, default=240)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Pursuit(args.seed)
    q_network = QNetwork()
    target_network = copy.deepcopy(q_network)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.lr)
    buffer = ReplayBuffer(5000)
    obs = env.reset()
    for step in range(args.total_timesteps):
        epsilon = linear_schedule(1.0, 0.05, 0.5 * args.total_timesteps, step)
        if random.random() < epsilon:
            action = random.randrange(3)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
        next_obs, reward, done = env.step(action)
        buffer.add(obs, action, reward, next_obs, done)
        obs = env.reset() if done else next_obs

        if step >= args.learning_starts:
            states, actions, rewards, next_states, dones = buffer.sample(args.batch_size)
            with torch.no_grad():
                best = q_network(next_states).argmax(dim=1, keepdim=True)
                following = target_network(next_states).gather(1, best).squeeze(1)
                td_target = rewards + args.gamma * following * (1 - dones)
            values = q_network(states).gather(1, actions[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(values, td_target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q_network.parameters(), 10.0)
            optimizer.step()
            with torch.no_grad():
                for old, new in zip(target_network.parameters(), q_network.parameters()):
                    old.lerp_(new, args.tau)
        if (step + 1) % 600 == 0:
            print(f"step {step + 1}  epsilon {epsilon:.2f}  test return {evaluate(q_network):.2f}")


if __name__ == "__main__":
    main()
