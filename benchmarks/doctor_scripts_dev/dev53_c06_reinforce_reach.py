"""REINFORCE for reaching a goal in the plane, many episodes side by side."""

import argparse
from collections import deque

import torch
import torch.nn as nn
from torch.distributions import Categorical

MOVES = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


class ReachEnv:
    """A point is to go to a goal. Episodes have a fixed number of steps; the reward is the way that was won.

    A step is 0.1 long, and the reward ten times the way, so that it lies between -1 and 1.
    """

    def __init__(self, n_envs, horizon=20, step=0.1, slip=0.1, seed=0):
        self.n_envs, self.horizon, self.step_size, self.slip = n_envs, horizon, step, slip
        self.generator = torch.Generator().manual_seed(seed)

    def reset(self):
        self.position = 2 * torch.rand(self.n_envs, 2, generator=self.generator) - 1
        self.goal = 2 * torch.rand(self.n_envs, 2, generator=self.generator) - 1
        self.time = 0
        return self.observe()

    def observe(self):
        return torch.cat([self.position, self.goal], 1)

    def distance(self):
        return (self.position - self.goal).norm(dim=1)

    def step(self, actions):
        before = self.distance()
        slipped = torch.rand(self.n_envs, generator=self.generator) < self.slip
        moves = MOVES[actions] * (~slipped).float()[:, None]
        self.position = (self.position + self.step_size * moves).clamp(-1.2, 1.2)
        self.time += 1
        reward = (before - self.distance()) / self.step_size
        return self.observe(), reward, self.time >= self.horizon


class Policy(nn.Module):
    def __init__(self, n_obs=4, n_hidden=64, n_actions=len(MOVES)):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_obs, n_hidden), nn.Tanh(), nn.Linear(n_hidden, n_hidden), nn.Tanh()
        )
        self.head = nn.Linear(n_hidden, n_actions)
        nn.init.orthogonal_(self.head.weight, 0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, obs):
        return Categorical(logits=self.head(self.net(obs)))


def rollout(env, policy):
    """One episode of each environment; rows are steps, columns environments."""
    observations, actions, rewards = [], [], []
    obs, done = env.reset(), False
    while not done:
        with torch.no_grad():
            action = policy(obs).sample()
        observations.append(obs)
        actions.append(action)
        obs, reward, done = env.step(action)
        rewards.append(reward)
    return torch.stack(observations), torch.stack(actions), torch.stack(rewards)


def rewards_to_go(rewards, gamma):
    returns = torch.zeros_like(rewards)
    running = torch.zeros(rewards.shape[1])
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * running
        returns[t] = running
    return returns


@torch.no_grad()
def evaluate(policy, env):
    """The best action, always; the share of episodes that end near the goal."""
    policy.eval()
    obs, done, total = env.reset(), False, torch.zeros(env.n_envs)
    while not done:
        obs, reward, done = env.step(policy(obs).probs.argmax(-1))
        total += reward
    policy.train()
    return total.mean().item(), (env.distance() < 0.15).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.8)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--ent-coef", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    env = ReachEnv(args.envs, seed=args.seed)
    test_env = ReachEnv(128, seed=args.seed + 1000)
    policy = Policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=args.lr)
    recent = deque(maxlen=20)

    for update in range(1, args.updates + 1):
        obs, actions, rewards = rollout(env, policy)
        returns = rewards_to_go(rewards, args.gamma)
        # the mean over environments at the same step is the baseline
        advantages = returns - returns.mean(1, keepdim=True)
        advantages = advantages / (advantages.std() + 1e-6)

        dist = policy(obs.flatten(0, 1))
        log_prob = dist.log_prob(actions.flatten())
        loss = -(log_prob * advantages.flatten()).mean() - args.ent_coef * dist.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()

        recent.append(rewards.sum(0).mean().item())
        if update % 40 == 0:
            test_return, success = evaluate(policy, test_env)
            print(
                f"update {update:4d}  return {sum(recent) / len(recent):6.2f}  "
                f"test return {test_return:6.2f}  success {success:.2f}"
            )


if __name__ == "__main__":
    main()
