"""REINFORCE on a vectorized reaching task, one file in the manner of CleanRL."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical


@dataclass
class Args:
    seed: int = 1
    num_envs: int = 32
    """the number of parallel environments"""
    horizon: int = 20
    """every episode has exactly this many steps"""
    num_iterations: int = 100
    learning_rate: float = 3e-3
    gamma: float = 0.95
    ent_coef: float = 0.01
    max_grad_norm: float = 1.0
    eval_every: int = 20


class ReachEnvs:
    """Points on a line that are pushed left or right, and should be at their goal."""

    def __init__(self, num_envs, horizon, seed):
        self.num_envs, self.horizon = num_envs, horizon
        self.rng = np.random.default_rng(seed)

    def reset(self):
        self.position = self.rng.uniform(-1, 1, self.num_envs)
        self.goal = self.rng.uniform(-1, 1, self.num_envs)
        self.steps = 0
        return self.observe()

    def observe(self):
        left = np.full(self.num_envs, 1 - self.steps / self.horizon)
        return np.stack([self.position, self.goal, left], axis=1).astype(np.float32)

    def step(self, action):
        push = 0.15 * (action - 1) + 0.02 * self.rng.standard_normal(self.num_envs)
        self.position = np.clip(self.position + push, -1.2, 1.2)
        self.steps += 1
        reward = 1.0 - 2.0 * np.abs(self.position - self.goal)
        return self.observe(), reward.astype(np.float32), self.steps >= self.horizon


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, observations=3, actions=3, hidden=64):
        super().__init__()
        self.actor = nn.Sequential(
            layer_init(nn.Linear(observations, hidden)),
            nn.Tanh(),
            layer_init(nn.Linear(hidden, hidden)),
            nn.Tanh(),
            layer_init(nn.Linear(hidden, actions), std=0.01),
        )

    def forward(self, obs):
        return Categorical(logits=self.actor(obs))


def rollout(agent, envs):
    """Observations, actions and rewards of one episode in each environment, time first."""
    observations, actions, rewards = [], [], []
    obs, done = torch.from_numpy(envs.reset()), False
    while not done:
        with torch.no_grad():
            action = agent(obs).sample()
        next_obs, reward, done = envs.step(action.numpy())
        observations.append(obs)
        actions.append(action)
        rewards.append(torch.from_numpy(reward))
        obs = torch.from_numpy(next_obs)
    return torch.stack(observations), torch.stack(actions), torch.stack(rewards)


def rewards_to_go(rewards, gamma):
    returns = torch.zeros_like(rewards)
    running = torch.zeros(rewards.shape[1])
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * running
        returns[t] = running
    return returns


@torch.no_grad()
def evaluate(agent, envs):
    obs, done, total = torch.from_numpy(envs.reset()), False, np.zeros(envs.num_envs)
    while not done:
        obs, reward, done = envs.step(agent(obs).probs.argmax(dim=1).numpy())
        obs = torch.from_numpy(obs)
        total += reward
    return total.mean()


def main():
    args = Args()
    torch.manual_seed(args.seed)
    envs = ReachEnvs(args.num_envs, args.horizon, seed=args.seed)
    eval_envs = ReachEnvs(64, args.horizon, seed=args.seed + 1000)
    agent = Agent()
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate)

    for iteration in range(1, args.num_iterations + 1):
        obs, actions, rewards = rollout(agent, envs)
        returns = rewards_to_go(rewards, args.gamma)
        # the baseline is the mean over the environments at each time step
        advantages = returns - returns.mean(dim=1, keepdim=True)
        advantages = advantages / (advantages.std() + 1e-8)

        policy = agent(obs)
        logprob, entropy = policy.log_prob(actions), policy.entropy()
        loss = -(logprob * advantages).mean() - args.ent_coef * entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
        optimizer.step()

        if iteration % args.eval_every == 0:
            episodic = rewards.sum(0).mean().item()
            print(f"iteration={iteration}, episodic_return={episodic:.2f}, eval_return={evaluate(agent, eval_envs):.2f}")


if __name__ == "__main__":
    main()
