"""Advantage actor-critic (A2C) learns to catch falling balls. Many games run side by side."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical


@dataclass
class Config:
    num_envs: int = 32
    n_steps: int = 16
    updates: int = 2000
    gamma: float = 0.95
    lr: float = 2e-3
    hidden: int = 64
    value_coef: float = 0.5
    entropy_coef: float = 0.01
    max_grad_norm: float = 1.0
    log_every: int = 100
    seed: int = 3


class Catch:
    """A ball falls and bounces between walls; the paddle moves left, stays or moves right.

    The reward comes with the last step of a game: 1 for a catch, -1 for a miss. Games start anew by themselves.
    """

    width, height = 7, 9
    observation_size, num_actions = 16, 3

    def __init__(self, num_envs, seed):
        self.num_envs = num_envs
        self.rng = np.random.default_rng(seed)
        self.ball_x = np.zeros(num_envs, dtype=np.int64)
        self.ball_y = np.zeros(num_envs, dtype=np.int64)
        self.drift = np.zeros(num_envs, dtype=np.int64)
        self.paddle = np.zeros(num_envs, dtype=np.int64)

    def start(self, which):
        count = int(which.sum())
        self.ball_x[which] = self.rng.integers(0, self.width, count)
        self.ball_y[which] = self.rng.integers(0, 2, count)
        self.drift[which] = self.rng.integers(-1, 2, count)
        self.paddle[which] = self.rng.integers(0, self.width, count)

    def observe(self):
        eye = np.eye(self.width, dtype=np.float32)
        height = (self.ball_y / (self.height - 1)).astype(np.float32)[:, None]
        drift = self.drift.astype(np.float32)[:, None]
        return torch.from_numpy(np.concatenate([eye[self.ball_x], eye[self.paddle], height, drift], axis=1))

    def reset(self):
        self.start(np.ones(self.num_envs, dtype=bool))
        return self.observe()

    def step(self, action):
        self.paddle = np.clip(self.paddle + action - 1, 0, self.width - 1)
        self.ball_y = self.ball_y + 1
        moved = self.ball_x + self.drift
        outside = (moved < 0) | (moved > self.width - 1)
        self.drift = np.where(outside, -self.drift, self.drift)
        self.ball_x = np.where(outside, self.ball_x + self.drift, moved)
        done = self.ball_y == self.height - 1
        reward = np.where(done, np.where(self.ball_x == self.paddle, 1.0, -1.0), 0.0).astype(np.float32)
        self.start(done)
        return self.observe(), reward, done.astype(np.float32)


class ActorCritic(nn.Module):
    def __init__(self, inputs, actions, hidden):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.actor = nn.Linear(hidden, actions)
        self.critic = nn.Linear(hidden, 1)

    def forward(self, obs):
        features = self.body(obs)
        return self.actor(features), self.critic(features).squeeze(-1)


@torch.no_grad()
def evaluate(model, seed, num_envs=64, steps=48):
    """Mean reward per game of the policy that always takes the most probable action."""
    model.eval()
    env = Catch(num_envs, seed)
    obs = env.reset()
    total, games = 0.0, 0.0
    for _ in range(steps):
        logits, _ = model(obs)
        obs, reward, done = env.step(logits.argmax(dim=-1).numpy())
        total += float(reward.sum())
        games += float(done.sum())
    model.train()
    return total / games


def discounted_returns(rewards, dones, last_value, gamma):
    returns = torch.zeros_like(rewards)
    running = last_value
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * running * (1 - dones[t])
        returns[t] = running
    return returns


def train(cfg):
    torch.manual_seed(cfg.seed)
    env = Catch(cfg.num_envs, cfg.seed)
    model = ActorCritic(env.observation_size, env.num_actions, cfg.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)

    obs_buf = torch.zeros(cfg.n_steps, cfg.num_envs, env.observation_size)
    act_buf = torch.zeros(cfg.n_steps, cfg.num_envs, dtype=torch.long)
    rew_buf = torch.zeros(cfg.n_steps, cfg.num_envs)
    done_buf = torch.zeros(cfg.n_steps, cfg.num_envs)

    obs = env.reset()
    for update in range(1, cfg.updates + 1):
        with torch.no_grad():
            for t in range(cfg.n_steps):
                logits, _ = model(obs)
                action = Categorical(logits=logits).sample()
                obs_buf[t] = obs
                act_buf[t] = action
                obs, reward, done = env.step(action.numpy())
                rew_buf[t] = torch.from_numpy(reward)
                done_buf[t] = torch.from_numpy(done)
            _, last_value = model(obs)
        returns = discounted_returns(rew_buf, done_buf, last_value, cfg.gamma)

        logits, values = model(obs_buf.reshape(-1, env.observation_size))
        actions = act_buf.reshape(-1)
        targets = returns.reshape(-1)
        dist = Categorical(logits=logits)
        log_prob = dist.log_prob(actions)
        advantage = targets - values.detach()

        policy_loss = -(log_prob * advantage).mean()
        value_loss = (targets - values).pow(2).mean()
        entropy = dist.entropy().mean()
        loss = policy_loss + cfg.value_coef * value_loss - cfg.entropy_coef * entropy

        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
        optimizer.step()

        if update % cfg.log_every == 0:
            score = evaluate(model, seed=1000)
            print(
                f"update {update:4d}  reward per game {score:+.2f}  value loss {value_loss.item():.3f}  "
                f"entropy {entropy.item():.3f}"
            )
    return model


if __name__ == "__main__":
    torch.set_num_threads(1)
    trained = train(Config())
    print(f"final reward per game {evaluate(trained, seed=2000):+.2f}")
