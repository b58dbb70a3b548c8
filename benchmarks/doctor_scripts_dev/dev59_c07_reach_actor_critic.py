"""Reaching a goal in the plane: actor-critic on a batch of simulated point robots."""

import argparse
from collections import deque

import torch
import torch.nn as nn
from torch.distributions import Normal


class ReachEnv:
    """Robots in a square move by 0.2 at most a step; the reward is the progress toward the goal."""

    def __init__(self, num_envs, horizon, seed):
        self.num_envs, self.horizon = num_envs, horizon
        self.generator = torch.Generator().manual_seed(seed)

    def reset(self):
        self.pos = 2 * torch.rand(self.num_envs, 2, generator=self.generator) - 1
        self.goal = 2 * torch.rand(self.num_envs, 2, generator=self.generator) - 1
        return self.observe()

    def observe(self):
        return torch.cat([self.goal - self.pos, self.pos], dim=1)

    def distance(self):
        return (self.goal - self.pos).norm(dim=1)

    def step(self, action):
        before = self.distance()
        self.pos = (self.pos + 0.2 * action.clamp(-1, 1)).clamp(-1.2, 1.2)
        reward = 5.0 * (before - self.distance())
        return self.observe(), reward


class Actor(nn.Module):
    def __init__(self, obs_dim=4, act_dim=2, hidden=48):
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(obs_dim, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, act_dim)
        )
        self.log_std = nn.Parameter(torch.full((act_dim,), -0.5))

    def forward(self, obs):
        return Normal(self.mean(obs), self.log_std.exp())


class Critic(nn.Module):
    def __init__(self, obs_dim=4, hidden=48):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(obs_dim, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, obs):
        return self.net(obs).squeeze(-1)


@torch.no_grad()
def rollout(env, actor):
    obs, actions, rewards = [], [], []
    o = env.reset()
    for _ in range(env.horizon):
        a = actor(o).sample()
        next_o, r = env.step(a)
        obs.append(o)
        actions.append(a)
        rewards.append(r)
        o = next_o
    return torch.stack(obs), torch.stack(actions), torch.stack(rewards), o


@torch.no_grad()
def discounted_returns(rewards, last_value, gamma):
    """The episode is cut off at the horizon, so the critic's value stands for what would follow."""
    returns, running = torch.zeros_like(rewards), last_value
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * running
        returns[t] = running
    return returns


@torch.no_grad()
def evaluate(actor, horizon, seed=1000, num_envs=128):
    env = ReachEnv(num_envs, horizon, seed)
    o = env.reset()
    for _ in range(horizon):
        o, _ = env.step(actor(o).mean)
    d = env.distance()
    return d.mean().item(), (d < 0.2).float().mean().item()


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--updates", type=int, default=200)
    p.add_argument("--num-envs", type=int, default=64)
    p.add_argument("--horizon", type=int, default=20)
    p.add_argument("--gamma", type=float, default=0.9)
    p.add_argument("--actor-lr", type=float, default=3e-3)
    p.add_argument("--critic-lr", type=float, default=5e-3)
    p.add_argument("--ent-coef", type=float, default=0.001)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    env = ReachEnv(args.num_envs, args.horizon, args.seed)
    actor, critic = Actor(), Critic()
    actor_opt = torch.optim.Adam(actor.parameters(), lr=args.actor_lr)
    critic_opt = torch.optim.Adam(critic.parameters(), lr=args.critic_lr)
    recent = deque(maxlen=20)

    for update in range(1, args.updates + 1):
        obs, actions, rewards, last_obs = rollout(env, actor)
        with torch.no_grad():
            last_value = critic(last_obs)
        returns = discounted_returns(rewards, last_value, args.gamma)

        values = critic(obs)
        critic_loss = (values - returns).pow(2).mean()
        critic_opt.zero_grad()
        critic_loss.backward()
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
        critic_opt.step()

        advantages = returns - values.detach()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        dist = actor(obs)
        log_prob = dist.log_prob(actions).sum(-1)
        entropy = dist.entropy().sum(-1).mean()
        actor_loss = -(log_prob * advantages).mean() - args.ent_coef * entropy
        actor_opt.zero_grad()
        actor_loss.backward()
        nn.utils.clip_grad_norm_(actor.parameters(), 1.0)
        actor_opt.step()

        recent.append(rewards.sum(0).mean().item())
        if update % 20 == 0:
            distance, success = evaluate(actor, args.horizon)
            print(
                f"update {update:4d} return {sum(recent) / len(recent):6.2f} critic {critic_loss.item():.3f}"
                f" | eval distance {distance:.3f} success {success:.2f}"
            )


if __name__ == "__main__":
    main()
