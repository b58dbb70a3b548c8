"""Deep Q-learning on a little falling-rocks game: stand below the gap whenever a row of rocks comes down."""

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    width: int = 5
    height: int = 6
    max_steps: int = 60
    total_steps: int = 18000
    warmup: int = 500
    batch_size: int = 64
    buffer_size: int = 12000
    hidden: int = 128
    gamma: float = 0.9
    lr: float = 1e-3
    sync_every: int = 150
    eps_start: float = 1.0
    eps_end: float = 0.05
    eps_steps: int = 6000
    report_every: int = 1500
    seed: int = 0


class RocksEnv:
    """Every third step a row of rocks with one gap starts to fall. Actions: left, stay, right. One point for each step."""

    def __init__(self, cfg, seed):
        self.cfg = cfg
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.board = np.zeros((self.cfg.height, self.cfg.width), dtype=np.float32)
        self.player = int(self.rng.integers(self.cfg.width))
        self.gap = int(self.rng.integers(self.cfg.width))
        self.clock = 0
        return self.observe(), {}

    def observe(self):
        place = np.zeros(self.cfg.width, dtype=np.float32)
        place[self.player] = 1.0
        return np.concatenate([self.board.ravel(), place])

    def step(self, action):
        self.player = min(max(self.player + action - 1, 0), self.cfg.width - 1)
        self.board = np.roll(self.board, 1, axis=0)
        self.board[0] = 0.0
        if self.clock % 3 == 0:
            jump = int(self.rng.integers(-2, 3))
            self.gap = min(max(self.gap + jump, 0), self.cfg.width - 1)
            self.board[0] = 1.0
            self.board[0, self.gap] = 0.0
        self.clock += 1
        terminated = bool(self.board[-1, self.player] > 0)
        truncated = not terminated and self.clock >= self.cfg.max_steps
        return self.observe(), 1.0, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, width):
        self.size, self.count = size, 0
        self.obs = torch.zeros(size, width)
        self.next_obs = torch.zeros(size, width)
        self.actions = torch.zeros(size, dtype=torch.long)
        self.rewards = torch.zeros(size)
        self.dones = torch.zeros(size)

    def push(self, obs, action, reward, next_obs, done):
        i = self.count % self.size
        self.obs[i] = torch.from_numpy(obs)
        self.next_obs[i] = torch.from_numpy(next_obs)
        self.actions[i] = action
        self.rewards[i] = reward
        self.dones[i] = float(done)
        self.count += 1

    def sample(self, batch_size):
        index = torch.randint(0, min(self.count, self.size), (batch_size,))
        return self.obs[index], self.actions[index], self.rewards[index], self.next_obs[index], self.dones[index]


def q_network(inputs, hidden, actions):
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, actions),
    )


class Agent:
    def __init__(self, cfg, inputs, actions=3):
        self.cfg, self.actions = cfg, actions
        self.online = q_network(inputs, cfg.hidden, actions)
        self.target = q_network(inputs, cfg.hidden, actions)
        self.target.load_state_dict(self.online.state_dict())
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=cfg.lr)

    def epsilon(self, step):
        share = min(step / self.cfg.eps_steps, 1.0)
        return self.cfg.eps_start + share * (self.cfg.eps_end - self.cfg.eps_start)

    @torch.no_grad()
    def act(self, obs, epsilon=0.0):
        if random.random() < epsilon:
            return random.randrange(self.actions)
        return int(self.online(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))

    def learn(self, batch):
        obs, actions, rewards, next_obs, dones = batch
        q = self.online(obs).gather(1, actions.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            best_next = self.target(next_obs).max(dim=1).values
            goal = rewards + self.cfg.gamma * best_next * (1 - dones)
        loss = F.smooth_l1_loss(q, goal)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def update_target(self):
        self.target.load_state_dict(self.online.state_dict(), strict=True)


def play(agent, env, episodes=20):
    returns = []
    for _ in range(episodes):
        obs, _ = env.reset()
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
            total += reward
            over = terminated or truncated
        returns.append(total)
    return sum(returns) / len(returns)


def main():
    cfg = Config()
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    env, test_env = RocksEnv(cfg, seed=cfg.seed), RocksEnv(cfg, seed=cfg.seed + 1000)
    inputs = cfg.width * cfg.height + cfg.width
    agent = Agent(cfg, inputs)
    replay = ReplayBuffer(cfg.buffer_size, inputs)
    print(f"before training: mean return {play(agent, test_env):.1f} of {cfg.max_steps}")

    losses = []
    obs, _ = env.reset()
    for step in range(1, cfg.total_steps + 1):
        action = agent.act(obs, agent.epsilon(step))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        replay.push(obs, action, reward, next_obs, terminated)
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()
        if step > cfg.warmup:
            losses.append(agent.learn(replay.sample(cfg.batch_size)).detach())
        if step % cfg.sync_every == 0:
            agent.update_target()
        if step % cfg.report_every == 0:
            score = play(agent, test_env)
            print(f"step {step:6d}  loss {torch.stack(losses).mean().item():.4f}  mean return {score:.1f} of {cfg.max_steps}")
            losses.clear()


if __name__ == "__main__":
    main()
