# A single-file advantage actor-critic (A2C, GAE) on a grid: walk to the goal. After CleanRL.
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions.categorical import Categorical


@dataclass
class Args:
    seed: int = 1
    num_envs: int = 16
    num_steps: int = 16
    num_updates: int = 300
    learning_rate: float = 3e-3
    gamma: float = 0.97
    gae_lambda: float = 0.95
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5


class GridVecEnv:
    """`count` grids of size x size; +1 at the goal, which ends the episode, and -0.02 for every other step."""

    moves = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])

    def __init__(self, count, size=7, limit=40, seed=0):
        self.count, self.size, self.limit = count, size, limit
        self.rng = np.random.default_rng(seed)
        self.agent, self.goal = np.zeros((count, 2), int), np.zeros((count, 2), int)
        self.elapsed = np.zeros(count, int)

    def _place(self, mask):
        n, cells = int(mask.sum()), self.size * self.size
        agent = self.rng.integers(0, cells, n)
        goal = (agent + self.rng.integers(1, cells, n)) % cells
        self.agent[mask] = np.stack([agent // self.size, agent % self.size], 1)
        self.goal[mask] = np.stack([goal // self.size, goal % self.size], 1)
        self.elapsed[mask] = 0

    def _observe(self):
        side = self.size - 1
        obs = np.concatenate([2 * self.agent / side - 1, 2 * (self.goal - self.agent) / side], axis=1)
        return torch.as_tensor(obs, dtype=torch.float32)

    def reset(self):
        self._place(np.ones(self.count, bool))
        return self._observe()

    def step(self, action):
        self.agent = np.clip(self.agent + self.moves[action], 0, self.size - 1)
        self.elapsed += 1
        terminated = (self.agent == self.goal).all(axis=1)
        truncated = (self.elapsed >= self.limit) & ~terminated
        reward = np.where(terminated, 1.0, -0.02)
        final_obs = self._observe()  # where the step led, before grids that ended begin anew
        self._place(terminated | truncated)
        return self._observe(), reward, terminated, truncated, final_obs


def layer_init(layer, std=np.sqrt(2)):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, 0.0)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_size=4, actions=4, hidden=64):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(obs_size, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(obs_size, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, hidden)), nn.Tanh(),
            layer_init(nn.Linear(hidden, actions), std=0.01),
        )

    def get_value(self, x):
        return self.critic(x).squeeze(-1)

    def get_policy(self, x):
        return Categorical(logits=self.actor(x))


def evaluate(agent, episodes=200, seed=1000):
    """The first episode of each of many grids, with the most likely action."""
    envs = GridVecEnv(episodes, seed=seed)
    obs, open_, reached, steps = envs.reset(), np.ones(episodes, bool), np.zeros(episodes, bool), np.zeros(episodes)
    while open_.any():
        with torch.no_grad():
            action = agent.actor(obs).argmax(dim=1).numpy()
        obs, _, terminated, truncated, _ = envs.step(action)
        steps += open_
        reached |= open_ & terminated
        open_ &= ~(terminated | truncated)
    return reached.mean(), steps.mean()


if __name__ == "__main__":
    args = Args()
    torch.manual_seed(args.seed)

    envs = GridVecEnv(args.num_envs, seed=args.seed)
    agent = Agent()
    optimizer = optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)

    shape = (args.num_steps, args.num_envs)
    obs, final_obs = torch.zeros(shape + (4,)), torch.zeros(shape + (4,))
    actions = torch.zeros(shape, dtype=torch.long)
    rewards, terminations, ends = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)

    next_obs = envs.reset()
    for update in range(1, args.num_updates + 1):
        frac = 1.0 - (update - 1.0) / args.num_updates
        optimizer.param_groups[0]["lr"] = frac * args.learning_rate

        for step in range(args.num_steps):
            obs[step] = next_obs
            with torch.no_grad():
                actions[step] = agent.get_policy(next_obs).sample()
            next_obs, reward, terminated, truncated, last_obs = envs.step(actions[step].numpy())
            final_obs[step] = last_obs
            rewards[step] = torch.as_tensor(reward, dtype=torch.float32)
            terminations[step] = torch.as_tensor(terminated, dtype=torch.float32)
            ends[step] = torch.as_tensor(terminated | truncated, dtype=torch.float32)

        # what follows counts also after an episode that only the limit ended, but not beyond its end
        with torch.no_grad():
            values, following = agent.get_value(obs), agent.get_value(final_obs)
            advantages, lastgaelam = torch.zeros(shape), torch.zeros(args.num_envs)
            for t in reversed(range(args.num_steps)):
                delta = rewards[t] + args.gamma * following[t] * (1 - terminations[t]) - values[t]
                lastgaelam = delta + args.gamma * args.gae_lambda * (1 - ends[t]) * lastgaelam
                advantages[t] = lastgaelam
            returns = advantages + values
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        policy = agent.get_policy(obs)
        pg_loss = -(advantages * policy.log_prob(actions)).mean()
        entropy_loss = policy.entropy().mean()
        v_loss = F.mse_loss(agent.get_value(obs), returns)
        loss = pg_loss - args.ent_coef * entropy_loss + args.vf_coef * v_loss

        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
        optimizer.step()

        if update % 50 == 0:
            reached, steps = evaluate(agent)
            print(f"update {update}  value loss {v_loss.item():.4f}  entropy {entropy_loss.item():.3f}  "
                  f"goal reached {reached:.3f}  steps {steps:.1f}")
