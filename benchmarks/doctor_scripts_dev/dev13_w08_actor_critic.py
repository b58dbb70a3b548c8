"""Advantage actor-critic on a small grid: walk to the flag, keep out of the pit. 64 worlds run side by side."""
import collections

import torch
import torch.nn as nn
from torch.distributions import Categorical

N = 5
N_ENVS = 64
ROLLOUT = 10
UPDATES = 750
GAMMA = 0.95
ENTROPY_COEF = 0.02
VALUE_COEF = 0.5
LR = 3e-3
MAX_STEPS = 30
MOVES = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])


class GridWorlds:
    """Batch of N x N grids with an agent, a flag (+1) and a pit (-1); each step costs 0.02."""

    def __init__(self, count, seed):
        self.count = count
        self.gen = torch.Generator().manual_seed(seed)
        self.cells = torch.zeros(count, 3, dtype=torch.long)
        self.age = torch.zeros(count, dtype=torch.long)
        self._restart(torch.ones(count, dtype=torch.bool))

    def _restart(self, which):
        fresh = torch.rand(self.count, N * N, generator=self.gen).argsort(1)[:, :3]
        self.cells = torch.where(which[:, None], fresh, self.cells)
        self.age = torch.where(which, 0, self.age)

    def observe(self):
        planes = torch.zeros(self.count, 3, N * N)
        rows = torch.arange(self.count)
        planes[rows, 0, self.cells[:, 0]] = 1
        planes[rows, 1, self.cells[:, 1]] = 1
        planes[rows, 2, self.cells[:, 2]] = 1
        return planes.flatten(1)

    def step(self, action):
        pos = torch.stack([self.cells[:, 0] // N, self.cells[:, 0] % N], 1)
        pos = (pos + MOVES[action]).clamp(0, N - 1)
        self.cells[:, 0] = pos[:, 0] * N + pos[:, 1]
        self.age += 1
        won = self.cells[:, 0] == self.cells[:, 1]
        lost = self.cells[:, 0] == self.cells[:, 2]
        done = won | lost | (self.age >= MAX_STEPS)
        reward = won.float() - lost.float() - 0.02
        self._restart(done)
        return self.observe(), reward, done.float(), won


class ActorCritic(nn.Module):
    def __init__(self, n_obs=3 * N * N, n_act=4, hidden=128):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_obs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.actor = nn.Linear(hidden, n_act)
        self.critic = nn.Linear(hidden, 1)

    def forward(self, obs):
        h = self.trunk(obs)
        return Categorical(logits=self.actor(h)), self.critic(h).squeeze(-1)


def collect(net, env, obs):
    """One rollout; keeps what the update needs in lists over time."""
    buf = collections.defaultdict(list)
    for _ in range(ROLLOUT):
        policy, value = net(obs)
        action = policy.sample()
        obs, reward, done, _ = env.step(action)
        buf["log_prob"].append(policy.log_prob(action))
        buf["entropy"].append(policy.entropy())
        buf["value"].append(value)
        buf["reward"].append(reward)
        buf["done"].append(done)
    with torch.no_grad():
        _, last_value = net(obs)
    return obs, last_value, buf


def discounted(rewards, dones, last_value):
    returns, running = [], last_value.view(-1)
    for r, d in zip(reversed(rewards), reversed(dones)):
        running = r + GAMMA * running * (1 - d)
        returns.append(running)
    return torch.cat(returns[::-1])


@torch.no_grad()
def win_rate(net, episodes=300, seed=123):
    """Share of the first episodes of fresh worlds that reach the flag."""
    env = GridWorlds(episodes, seed)
    obs, running, wins = env.observe(), torch.ones(episodes, dtype=torch.bool), 0
    for _ in range(MAX_STEPS):
        policy, _ = net(obs)
        obs, _, done, won = env.step(policy.sample())
        wins += (won & running).sum().item()
        running &= done == 0
    return wins / episodes


torch.manual_seed(2)
net = ActorCritic()
optimizer = torch.optim.Adam(net.parameters(), lr=LR)
env = GridWorlds(N_ENVS, seed=0)
obs = env.observe()
print(f"before training: wins {win_rate(net):.2f}")
for update in range(1, UPDATES + 1):
    obs, last_value, buf = collect(net, env, obs)
    returns = discounted(buf["reward"], buf["done"], last_value)
    values, log_probs = torch.cat(buf["value"]), torch.cat(buf["log_prob"])
    advantage = returns - values.detach()
    policy_loss = -(log_probs * advantage).mean()
    value_loss = (returns - values).pow(2).mean()
    entropy = torch.cat(buf["entropy"]).mean()
    loss = policy_loss + VALUE_COEF * value_loss - ENTROPY_COEF * entropy
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    if update % 150 == 0:
        explained = 1 - (returns - values).var().item() / returns.var().item()
        print(f"update {update}: mean reward {torch.cat(buf['reward']).mean():+.3f} entropy {entropy.item():.2f} explained {explained:.2f} wins {win_rate(net):.2f}")
