"""Double DQN that keeps platforms hovering over their pads, in wind and with thrusters that answer late."""

import argparse
import copy

import torch
import torch.nn.functional as F
from torch import nn


class Hover:
    """Many platforms at once. State: offset, velocity, thrust, wind. An episode ends where |offset| > 1, and is
    cut off after `limit` steps. Every step gives a reward of a tenth."""

    actions, width = 3, 4

    def __init__(self, count, seed, limit=200):
        self.generator = torch.Generator().manual_seed(seed)
        self.count, self.limit = count, limit
        self.state = torch.zeros(count, self.width)
        self.age = torch.zeros(count, dtype=torch.long)
        self.reset(torch.ones(count, dtype=torch.bool))

    def uniform(self, count, limit):
        return limit * (2 * torch.rand(count, generator=self.generator) - 1)

    def reset(self, which):
        count = int(which.sum())
        fresh = torch.zeros(count, self.width)
        fresh[:, 0] = self.uniform(count, 0.5)
        fresh[:, 1] = self.uniform(count, 0.4)
        fresh[:, 3] = self.uniform(count, 0.3)
        self.state[which] = fresh
        self.age[which] = 0
        return self.observe()

    def observe(self):
        return self.state.clone()

    def step(self, action):
        state = self.state
        gust = 0.2 * torch.randn(self.count, generator=self.generator)
        state[:, 2] += 0.3 * (action - 1 - state[:, 2])
        state[:, 1] += 0.1 * (state[:, 2] + state[:, 3] + gust)
        state[:, 0] += 0.1 * state[:, 1]
        self.age += 1
        fallen = state[:, 0].abs() > 1
        cut_off = self.age >= self.limit
        reward = torch.full((self.count,), 0.1)
        return self.observe(), reward, fallen, cut_off


class Replay:
    def __init__(self, capacity, width):
        self.obs, self.next_obs = torch.zeros(capacity, width), torch.zeros(capacity, width)
        self.action = torch.zeros(capacity, dtype=torch.long)
        self.reward, self.ended = torch.zeros(capacity), torch.zeros(capacity)
        self.capacity, self.size, self.at = capacity, 0, 0

    def add(self, obs, action, reward, next_obs, ended):
        rows = (self.at + torch.arange(len(obs))) % self.capacity
        self.obs[rows] = obs
        self.action[rows] = action
        self.reward[rows] = reward
        self.next_obs[rows] = next_obs
        self.ended[rows] = ended.float()
        self.at = (self.at + len(obs)) % self.capacity
        self.size = min(self.size + len(obs), self.capacity)

    def sample(self, count):
        rows = torch.randint(0, self.size, (count,))
        return self.obs[rows], self.action[rows], self.reward[rows], self.next_obs[rows], self.ended[rows]


def make_network(hidden):
    return nn.Sequential(
        nn.Linear(Hover.width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, Hover.actions),
    )


def choose(network, obs, epsilon):
    with torch.no_grad():
        greedy = network(obs).argmax(dim=1)
    anything = torch.randint(0, Hover.actions, greedy.shape)
    return torch.where(torch.rand(len(obs)) < epsilon, anything, greedy)


def learn(network, target, optimizer, batch, gamma):
    obs, action, reward, next_obs, ended = batch
    with torch.no_grad():
        best = network(next_obs).argmax(dim=1, keepdim=True)
        future = target(next_obs).gather(1, best).squeeze(1)
        goal = reward + gamma * (1 - ended) * future
    value = network(obs).gather(1, action.unsqueeze(1)).squeeze(1)
    loss = F.smooth_l1_loss(value, goal)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimizer.step()
    return loss.item(), value.mean().item()


@torch.no_grad()
def evaluate(network, seed, count=64, limit=200):
    """Mean number of steps that fresh platforms stay over their pads, without random actions."""
    env = Hover(count, seed, limit)
    obs, steps = env.observe(), torch.zeros(count)
    aloft = torch.ones(count, dtype=torch.bool)
    for _ in range(limit):
        obs, _, fallen, _ = env.step(network(obs).argmax(dim=1))
        aloft &= ~fallen
        steps += aloft.float()
    return steps.mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--capacity", type=int, default=150_000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--sync", type=int, default=100)
    parser.add_argument("--explore", type=int, default=3000, help="steps until epsilon is at its lowest")
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--report", type=int, default=750)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    env = Hover(args.envs, seed=args.seed + 1)
    network = make_network(args.hidden)
    target = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=args.lr)
    replay = Replay(args.capacity, Hover.width)

    print(f"untrained: {evaluate(network, seed=1000):.1f} of 200 steps")
    obs = env.observe()
    losses, values = [], []
    for step in range(1, args.steps + 1):
        epsilon = max(0.05, 1 - step / args.explore)
        action = choose(network, obs, epsilon)
        next_obs, reward, fallen, cut_off = env.step(action)
        replay.add(obs, action, reward, next_obs, fallen)
        obs = env.reset(fallen | cut_off)
        if step <= args.warmup:
            continue
        loss, value = learn(network, target, optimizer, replay.sample(args.batch_size), args.gamma)
        losses.append(loss)
        values.append(value)
        if step % args.sync == 0:
            target.load_state_dict(network.state_dict())
        if step % args.report == 0:
            print(
                f"step {step:5d}  epsilon {epsilon:.2f}  loss {sum(losses) / len(losses):.5f}  "
                f"mean value {sum(values) / len(values):.2f}  steps aloft {evaluate(network, seed=1000 + step):.1f}",
                flush=True,
            )
            losses, values = [], []
    print(f"final: {evaluate(network, seed=99, count=256):.1f} of 200 steps")


if __name__ == "__main__":
    main()
