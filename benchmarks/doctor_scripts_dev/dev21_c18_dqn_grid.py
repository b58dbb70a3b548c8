"""Double DQN in a small grid world: +1 at the goal, -1 in a pit, a little cost for each move, cut off after 40 moves."""

import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class GridWorld:
    size = 6
    goal = (5, 5)
    pits = {(1, 3), (3, 1), (3, 4), (4, 2)}
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, seed, limit=40):
        self.rng, self.limit = random.Random(seed), limit

    def reset(self):
        cells = [(r, c) for r in range(self.size) for c in range(self.size)]
        self.position = self.rng.choice([cell for cell in cells if cell != self.goal and cell not in self.pits])
        self.time = 0
        return self.observe()

    def observe(self):
        observation = np.zeros(self.size * self.size, dtype=np.float32)
        observation[self.position[0] * self.size + self.position[1]] = 1.0
        return observation

    def step(self, action):
        down, right = self.moves[action]
        row = min(max(self.position[0] + down, 0), self.size - 1)
        column = min(max(self.position[1] + right, 0), self.size - 1)
        self.position = (row, column)
        self.time += 1
        if self.position == self.goal:
            return self.observe(), 1.0, True, False
        if self.position in self.pits:
            return self.observe(), -1.0, True, False
        return self.observe(), -0.02, False, self.time >= self.limit


class ReplayBuffer:
    def __init__(self, capacity, width, seed):
        self.observations = np.zeros((capacity, width), np.float32)
        self.next_observations = np.zeros((capacity, width), np.float32)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.terminated = np.zeros(capacity, np.float32)
        self.capacity, self.next, self.full = capacity, 0, False
        self.rng = np.random.default_rng(seed)

    def add(self, observation, action, reward, next_observation, terminated):
        i = self.next
        self.observations[i], self.next_observations[i] = observation, next_observation
        self.actions[i], self.rewards[i], self.terminated[i] = action, reward, terminated
        self.next = (i + 1) % self.capacity
        self.full = self.full or self.next == 0

    def __len__(self):
        return self.capacity if self.full else self.next

    def sample(self, count):
        index = self.rng.integers(0, len(self), count)
        fields = (self.observations, self.actions, self.rewards, self.next_observations, self.terminated)
        return [torch.from_numpy(field[index]) for field in fields]


class QNetwork(nn.Module):
    def __init__(self, inputs, actions, hidden=96):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.value, self.advantage = nn.Linear(hidden, 1), nn.Linear(hidden, actions)

    def forward(self, x):
        h = self.body(x)
        advantage = self.advantage(h)
        return self.value(h) + advantage - advantage.mean(dim=1, keepdim=True)


def best_action(network, observation):
    with torch.no_grad():
        return int(network(torch.from_numpy(observation).unsqueeze(0)).argmax(1))


def evaluate(network, episodes=60):
    env = GridWorld(seed=999)
    returns, reached = [], 0
    for _ in range(episodes):
        observation, total, over = env.reset(), 0.0, False
        while not over:
            observation, reward, terminated, truncated = env.step(best_action(network, observation))
            total += reward
            over = terminated or truncated
        reached += env.position == env.goal
        returns.append(total)
    return float(np.mean(returns)), reached / episodes


def main(steps=12000, warmup=500, batch_size=64, gamma=0.95, target_every=250):
    torch.manual_seed(0)
    chooser = random.Random(1)
    env = GridWorld(seed=2)
    online, target = QNetwork(36, 4), QNetwork(36, 4)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
    buffer = ReplayBuffer(10000, 36, seed=3)
    observation, losses = env.reset(), []

    for step in range(1, steps + 1):
        epsilon = max(0.05, 1.0 - 0.95 * step / 6000)
        action = chooser.randrange(4) if chooser.random() < epsilon else best_action(online, observation)
        next_observation, reward, terminated, truncated = env.step(action)
        # an episode that was only cut off has a future still: that is why `truncated` is not kept
        buffer.add(observation, action, reward, next_observation, terminated)
        observation = env.reset() if terminated or truncated else next_observation

        if step > warmup:
            observations, actions, rewards, next_observations, ended = buffer.sample(batch_size)
            q = online(observations).gather(1, actions.unsqueeze(1)).squeeze(1)
            with torch.no_grad():
                best = online(next_observations).argmax(1, keepdim=True)
                future = target(next_observations).gather(1, best).squeeze(1)
                goal = rewards + gamma * (1 - ended) * future
            loss = F.smooth_l1_loss(q, goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(online.parameters(), 10.0)
            optimizer.step()
            losses.append(loss.item())

        if step % target_every == 0:
            target.load_state_dict(online.state_dict())
        if step % 1000 == 0:
            mean_return, success = evaluate(online)
            print(f"step {step}: epsilon {epsilon:.2f}  loss {np.mean(losses):.4f}  return {mean_return:.3f}  success {success:.2f}")
            losses.clear()


if __name__ == "__main__":
    main()
