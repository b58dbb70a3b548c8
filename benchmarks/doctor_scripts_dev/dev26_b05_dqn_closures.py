"""DQN that holds a pole upright: an environment of its own, an agent made of closures."""

import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

TOTAL_STEPS = 14000
LEARN_FROM = 500
REPORT_EVERY = 1000
BATCH = 64
GAMMA = 0.95
TAU = 0.01
LR = 1e-3


class Pole:
    """Angle and speed of a pole that falls; a push to the left or to the right; one point for each step it stands."""

    LIMIT = 0.6
    MAX_STEPS = 200

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def observation(self):
        return np.array([self.theta / 0.3, self.omega / 0.6], dtype=np.float32)

    def reset(self):
        self.theta, self.omega = self.rng.uniform(-0.15, 0.15, size=2)
        self.steps = 0
        return self.observation()

    def step(self, action):
        force = 2.5 if action == 1 else -2.5
        self.omega += 0.05 * (4.0 * math.sin(self.theta) + force) + self.rng.normal(0, 0.02)
        self.theta += 0.05 * self.omega
        self.steps += 1
        terminated = abs(self.theta) > self.LIMIT
        truncated = self.steps >= self.MAX_STEPS
        return self.observation(), 1.0, terminated, truncated


class ReplayBuffer:
    def __init__(self, capacity, seed):
        self.obs = np.zeros((capacity, 2), dtype=np.float32)
        self.next_obs = np.zeros((capacity, 2), dtype=np.float32)
        self.actions = np.zeros(capacity, dtype=np.int64)
        self.rewards = np.zeros(capacity, dtype=np.float32)
        self.dones = np.zeros(capacity, dtype=np.float32)
        self.capacity, self.count = capacity, 0
        self.rng = np.random.default_rng(seed)

    def add(self, obs, action, reward, next_obs, done):
        i = self.count % self.capacity
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.count += 1

    def sample(self, size):
        rows = self.rng.integers(0, min(self.count, self.capacity), size=size)
        arrays = (self.obs, self.actions, self.rewards, self.next_obs, self.dones)
        return [torch.from_numpy(array[rows]) for array in arrays]


def make_agent(seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    q = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    target = copy.deepcopy(q)
    for parameter in target.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(q.parameters(), lr=LR)
    losses = []

    def act(obs, epsilon):
        if rng.random() < epsilon:
            return int(rng.integers(2))
        with torch.no_grad():
            return int(q(torch.from_numpy(obs)).argmax())

    def soft_update():
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), q.parameters()):
                slow.lerp_(fast, TAU)

    def learn(obs, actions, rewards, next_obs, dones):
        with torch.no_grad():
            # double DQN: one network chooses, the other values
            best = q(next_obs).argmax(1, keepdim=True)
            next_values = target(next_obs).gather(1, best).squeeze(1)
            wanted = rewards + GAMMA * next_values * (1 - dones)
        values = q(obs).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(values, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        # the target network follows slowly
        soft_update()
        return values.detach().mean().item()

    return act, learn, losses


def evaluate(act, episodes=10):
    env = Pole(seed=1000)
    total = 0.0
    for _ in range(episodes):
        obs, over = env.reset(), False
        while not over:
            obs, reward, terminated, truncated = env.step(act(obs, 0.0))
            total += reward
            over = terminated or truncated
    return total / episodes


def train(seed=3):
    env = Pole(seed)
    buffer = ReplayBuffer(10000, seed)
    act, learn, losses = make_agent(seed)
    mean_q = 0.0
    obs = env.reset()
    for step in range(1, TOTAL_STEPS + 1):
        epsilon = max(0.05, 1.0 - step / 5000)
        action = act(obs, epsilon)
        next_obs, reward, terminated, truncated = env.step(action)
        buffer.add(obs, action, reward, next_obs, terminated)
        obs = next_obs
        if terminated or truncated:
            obs = env.reset()
        if step > LEARN_FROM:
            mean_q = learn(*buffer.sample(BATCH))
        if step % REPORT_EVERY == 0:
            print(
                f"step {step:5d}  epsilon {epsilon:.2f}  loss {np.mean(losses[-500:]):.4f}  "
                f"mean Q {mean_q:.2f}  greedy return {evaluate(act):.1f} of {Pole.MAX_STEPS}"
            )


if __name__ == "__main__":
    train()
