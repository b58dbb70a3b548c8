"""Advantage actor-critic on a pole that is to be balanced on a cart; sixteen carts at once, one file, no gym."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical

ENVS, HORIZON, UPDATES, LIMIT = 16, 16, 1200, 200
GAMMA, LAMBDA = 0.98, 0.95
LR, ENTROPY, VALUE, CLIP = 2e-3, 0.01, 0.5, 0.5
REWARD = 0.1  # for each step that the pole stands


class Carts:
    """The usual equations of motion, for many carts; those that are done start anew by themselves."""

    def __init__(self, count, seed):
        self.count, self.rng = count, np.random.default_rng(seed)
        self.state = self.rng.uniform(-0.05, 0.05, (count, 4))
        self.age = np.zeros(count, dtype=int)

    def observe(self):
        scaled = self.state * np.array([0.5, 0.5, 5.0, 0.5])
        return torch.as_tensor(scaled, dtype=torch.float32)

    def step(self, action):
        x, v, angle, spin = self.state.T
        force = np.where(action == 1, 10.0, -10.0)
        cos, sin = np.cos(angle), np.sin(angle)
        push = (force + 0.05 * spin**2 * sin) / 1.1
        spin_up = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        speed_up = push - 0.05 * spin_up * cos / 1.1
        self.state = np.stack([x + 0.02 * v, v + 0.02 * speed_up, angle + 0.02 * spin, spin + 0.02 * spin_up], axis=1)
        self.age += 1

        fallen = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 0.2095)
        stopped = (self.age >= LIMIT) & ~fallen
        last = self.observe()
        done = fallen | stopped
        self.state[done] = self.rng.uniform(-0.05, 0.05, (int(done.sum()), 4))
        self.age[done] = 0
        reward = torch.full((self.count,), REWARD)
        as_float = lambda flags: torch.as_tensor(flags, dtype=torch.float32)
        return last, reward, as_float(fallen), as_float(done)


class ActorCritic(nn.Module):
    def __init__(self, inputs=4, hidden=64, actions=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.actor = nn.Linear(hidden, actions)
        self.critic = nn.Linear(hidden, 1)
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.zeros_(self.actor.bias)

    def forward(self, observation):
        features = self.body(observation)
        return self.actor(features), self.critic(features).squeeze(-1)


@torch.no_grad()
def rollout(net, carts):
    names = ("observation", "action", "reward", "fallen", "done", "value", "next_value")
    record = {name: [] for name in names}
    for _ in range(HORIZON):
        observation = carts.observe()
        logits, value = net(observation)
        action = Categorical(logits=logits).sample()
        last, reward, fallen, done = carts.step(action.numpy())
        next_value = net(last)[1]  # of the state before a new start
        for name, item in zip(names, (observation, action, reward, fallen, done, value, next_value)):
            record[name].append(item)
    return {name: torch.stack(items) for name, items in record.items()}


def advantages(record):
    delta = record["reward"] + GAMMA * record["next_value"] * (1 - record["fallen"]) - record["value"]
    result = torch.zeros_like(delta)
    running = torch.zeros(delta.size(1))
    for t in reversed(range(len(delta))):
        running = delta[t] + GAMMA * LAMBDA * (1 - record["done"][t]) * running
        result[t] = running
    return result


@torch.no_grad()
def evaluate(net, episodes=32):
    """Mean number of steps that poles stand when the likelier action is taken, up to LIMIT."""
    carts = Carts(episodes, seed=99)
    standing, length = torch.ones(episodes), torch.zeros(episodes)
    for _ in range(LIMIT):
        logits, _ = net(carts.observe())
        _, _, _, done = carts.step(logits.argmax(dim=-1).numpy())
        length += standing
        standing = standing * (1 - done)
    return length.mean().item()


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    carts, net = Carts(ENVS, seed=0), ActorCritic()
    optimizer = torch.optim.Adam(net.parameters(), lr=LR, eps=1e-5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - 0.9 * done / UPDATES)

    for update in range(1, UPDATES + 1):
        record = rollout(net, carts)
        advantage = advantages(record)
        returns = (advantage + record["value"]).flatten()
        advantage = advantage.flatten()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

        logits, value = net(record["observation"].flatten(0, 1))
        policy = Categorical(logits=logits)
        log_prob = policy.log_prob(record["action"].flatten())
        policy_loss = -(log_prob * advantage).mean()
        value_loss = F.mse_loss(value, returns)
        loss = policy_loss + VALUE * value_loss - ENTROPY * policy.entropy().mean()

        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        scheduler.step()

        if update % 100 == 0:
            print(
                f"update {update:4d}  value loss {value_loss.item():.4f}  "
                f"entropy {policy.entropy().mean().item():.3f}  mean length {evaluate(net):.1f} of {LIMIT}"
            )


if __name__ == "__main__":
    main()
