"""Policy gradient with a learned baseline: a point is moved to a goal on a line."""

import argparse
from collections import deque

import torch
import torch.nn as nn
from torch.distributions import Categorical


class PointEnv:
    """Many points at once. Every episode ends after `horizon` moves; the time left is observed."""

    MOVES = torch.tensor([-0.15, 0.0, 0.15])

    def __init__(self, count, horizon=16, seed=0):
        self.count, self.horizon = count, horizon
        self.generator = torch.Generator().manual_seed(seed)

    def observe(self):
        left = torch.full((self.count,), 1 - self.time / self.horizon)
        return torch.stack([self.position, self.goal, left], dim=1)

    def reset(self):
        self.time = 0
        self.position = 2 * torch.rand(self.count, generator=self.generator) - 1
        self.goal = 2 * torch.rand(self.count, generator=self.generator) - 1
        return self.observe()

    def step(self, action):
        self.time += 1
        self.position = (self.position + self.MOVES[action]).clamp(-1, 1)
        reward = 1 - (self.position - self.goal).abs()
        return self.observe(), reward, self.time >= self.horizon


def mlp(inputs, hidden, outputs):
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, outputs)
    )


class Policy(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.net = mlp(3, hidden, 3)

    def forward(self, obs):
        return Categorical(logits=self.net(obs))


def rollout(env, policy):
    observations, actions, rewards = [], [], []
    obs, done = env.reset(), False
    while not done:
        with torch.no_grad():
            action = policy(obs).sample()
        following, reward, done = env.step(action)
        observations.append(obs)
        actions.append(action)
        rewards.append(reward)
        obs = following
    return torch.stack(observations), torch.stack(actions), torch.stack(rewards)


def discounted(rewards, gamma):
    returns, running = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * running
        returns[t] = running
    return returns


@torch.no_grad()
def evaluate(policy, seed=10_000, count=200):
    env = PointEnv(count, seed=seed)
    obs, done, total = env.reset(), False, torch.zeros(count)
    while not done:
        obs, reward, done = env.step(policy(obs).probs.argmax(dim=1))
        total += reward
    return total.mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=80)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.9)
    parser.add_argument("--pi-lr", type=float, default=1e-2)
    parser.add_argument("--vf-lr", type=float, default=1e-2)
    parser.add_argument("--entropy", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    env = PointEnv(args.envs, seed=args.seed)
    policy, critic = Policy(), mlp(3, 32, 1)
    pi_optimizer = torch.optim.Adam(policy.parameters(), lr=args.pi_lr)
    vf_optimizer = torch.optim.Adam(critic.parameters(), lr=args.vf_lr)
    recent = deque(maxlen=10)
    print(f"before training: return {evaluate(policy):.2f} of at most {env.horizon}")

    for iteration in range(1, args.iterations + 1):
        obs, actions, rewards = rollout(env, policy)
        returns = discounted(rewards, args.gamma)
        obs, actions, returns = obs.flatten(0, 1), actions.flatten(), returns.flatten()
        with torch.no_grad():
            advantage = returns - critic(obs).squeeze(1)
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

        distribution = policy(obs)
        objective = (distribution.log_prob(actions) * advantage).mean() + args.entropy * distribution.entropy().mean()
        pi_loss = -objective
        pi_optimizer.zero_grad()
        pi_loss.backward()
        pi_optimizer.step()

        for _ in range(4):
            vf_loss = nn.functional.mse_loss(critic(obs).squeeze(1), returns)
            vf_optimizer.zero_grad()
            vf_loss.backward()
            vf_optimizer.step()

        recent.append(rewards.sum(0).mean().item())
        if iteration % 10 == 0:
            mean = sum(recent) / len(recent)
            print(f"iter {iteration:3d}  return {mean:.2f}  value loss {vf_loss.item():.3f}  test {evaluate(policy):.2f}")


if __name__ == "__main__":
    main()
