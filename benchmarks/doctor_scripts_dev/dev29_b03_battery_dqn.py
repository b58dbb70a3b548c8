# DQN in one file, in the manner of CleanRL: a home battery trades against an hourly power price.
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SELL, WAIT, BUY = 0, 1, 2


@dataclass
class Args:
    seed: int = 1
    total_steps: int = 18_000
    learning_starts: int = 500
    buffer_size: int = 18_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    gamma: float = 0.98
    target_every: int = 200
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_steps: int = 8_000
    eval_every: int = 1_000
    eval_episodes: int = 20


class BatteryEnv:
    """Two days, one action an hour. Power is cheap in the morning and dear in the evening; what is left at the end is lost."""

    CAPACITY, HOURS = 4, 48
    observation_size, actions = 5, 3

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.hour, self.charge, self.noise = 0, 0, 0.0
        return self._obs()

    def _price(self):
        return 50 - 30 * math.sin(2 * math.pi * self.hour / 24) + self.noise

    def _obs(self):
        angle = 2 * math.pi * self.hour / 24
        values = [
            math.sin(angle),
            math.cos(angle),
            2 * self.charge / self.CAPACITY - 1,
            (self._price() - 50) / 30,
            2 * self.hour / self.HOURS - 1,
        ]
        return np.array(values, dtype=np.float32)

    def step(self, action):
        price, reward = self._price(), 0.0
        if action == BUY and self.charge < self.CAPACITY:
            self.charge += 1
            reward = -price / 100
        elif action == SELL and self.charge > 0:
            self.charge -= 1
            reward = 0.95 * price / 100
        self.hour += 1
        self.noise = 0.7 * self.noise + self.rng.normal(0, 5)
        return self._obs(), reward, self.hour >= self.HOURS


class ReplayBuffer:
    def __init__(self, size, observation_size):
        self.obs = np.zeros((size, observation_size), dtype=np.float32)
        self.next_obs = np.zeros((size, observation_size), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.count = size, 0

    def add(self, obs, action, reward, next_obs, done):
        place = self.count % self.size
        self.obs[place], self.next_obs[place] = obs, next_obs
        self.actions[place], self.rewards[place], self.dones[place] = action, reward, done
        self.count += 1

    def sample(self, batch_size):
        index = np.random.randint(0, min(self.count, self.size), batch_size)
        columns = (self.obs, self.actions, self.rewards, self.next_obs, self.dones)
        return [torch.from_numpy(column[index]) for column in columns]


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(env.observation_size, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, env.actions),
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max(end_e, start_e + (end_e - start_e) * t / duration)


@torch.no_grad()
def greedy(q_net, obs):
    return int(q_net(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))


def evaluate(q_net, episodes):
    env, returns = BatteryEnv(seed=10_000), []
    for _ in range(episodes):
        obs, done, total = env.reset(), False, 0.0
        while not done:
            obs, reward, done = env.step(greedy(q_net, obs))
            total += reward
        returns.append(total)
    return float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    torch.set_num_threads(1)
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = BatteryEnv(args.seed)
    q_net, target_net = QNetwork(env), QNetwork(env)
    target_net.load_state_dict(q_net.state_dict())
    optimizer = torch.optim.Adam(q_net.parameters(), lr=args.learning_rate)
    buffer = ReplayBuffer(args.buffer_size, env.observation_size)

    obs = env.reset()
    for step in range(1, args.total_steps + 1):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_steps, step)
        if random.random() < epsilon:
            action = random.randrange(env.actions)
        else:
            action = greedy(q_net, obs)
        next_obs, reward, done = env.step(action)
        buffer.add(obs, action, reward, next_obs, done)
        obs = env.reset() if done else next_obs

        if step > args.learning_starts:
            b_obs, b_actions, b_rewards, b_next_obs, b_dones = buffer.sample(args.batch_size)
            with torch.no_grad():
                next_value = target_net(b_next_obs).max(dim=1).values
                td_target = b_rewards + args.gamma * next_value * (1 - b_dones)
            value = q_net(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(value, td_target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q_net.parameters(), 10.0)
            optimizer.step()

            if step % args.target_every == 0:
                target_net.load_state_dict(q_net.state_dict())

        if step % args.eval_every == 0:
            score = evaluate(q_net, args.eval_episodes)
            print(f"step {step:6d}  epsilon {epsilon:.2f}  loss {loss.item():.4f}  return {score:.3f} (best about 4)", flush=True)
