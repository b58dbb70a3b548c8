"""Double DQN on a small grid: walk to the goal, do not step into the pit, within forty steps."""

import copy
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class GridEnv:
    """Same interface as Gymnasium: step gives observation, reward, terminated, truncated, info."""

    SIZE, LIMIT = 6, 40
    MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    PIT = (3, 3)

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def _observe(self):
        return np.array([*self.agent, *self.goal], dtype=np.float32) / (self.SIZE - 1) * 2 - 1

    def reset(self):
        cells = [(r, c) for r in range(self.SIZE) for c in range(self.SIZE) if (r, c) != self.PIT]
        self.agent, self.goal = self.rng.sample(cells, 2)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        row, column = self.agent[0] + self.MOVES[action][0], self.agent[1] + self.MOVES[action][1]
        self.agent = (min(max(row, 0), self.SIZE - 1), min(max(column, 0), self.SIZE - 1))
        reward, terminated = -0.02, False
        if self.agent == self.goal:
            reward, terminated = 1.0, True
        elif self.agent == self.PIT:
            reward, terminated = -1.0, True
        truncated = not terminated and self.steps >= self.LIMIT
        return self._observe(), reward, terminated, truncated, {}


class QNetwork(nn.Module):
    def __init__(self, inputs=4, actions=4, hidden=128):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
        )

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, capacity):
        self.memory = deque(maxlen=capacity)

    def push(self, *transition):
        self.memory.append(transition)

    def sample(self, count):
        state, action, reward, next_state, terminated = zip(*random.sample(self.memory, count))
        return (
            torch.from_numpy(np.stack(state)),
            torch.tensor(action),
            torch.tensor(reward, dtype=torch.float32),
            torch.from_numpy(np.stack(next_state)),
            torch.tensor(terminated, dtype=torch.float32),
        )

    def __len__(self):
        return len(self.memory)


def evaluate(q_network, episodes=100):
    env = GridEnv(seed=12345)
    returns, reached = [], 0
    for _ in range(episodes):
        state, _ = env.reset()
        total, done = 0.0, False
        while not done:
            with torch.no_grad():
                action = q_network(torch.from_numpy(state)).argmax().item()
            state, reward, terminated, truncated, _ = env.step(action)
            total += reward
            done = terminated or truncated
        returns.append(total)
        reached += terminated and reward > 0
    return float(np.mean(returns)), reached / episodes


def main():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    gamma, tau, batch_size = 0.95, 0.01, 64
    total_steps, learning_starts, exploration_steps = 14000, 500, 6000
    env, buffer = GridEnv(seed=0), ReplayBuffer(10000)
    q_network = QNetwork()
    target_network = copy.deepcopy(q_network).requires_grad_(False)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=1e-3)

    state, _ = env.reset()
    for step in range(1, total_steps + 1):
        epsilon = max(0.05, 1.0 - 0.95 * step / exploration_steps)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(state)).argmax().item()
        next_state, reward, terminated, truncated, _ = env.step(action)
        # a truncated episode has not ended: its last state keeps its value
        buffer.push(state, action, reward, next_state, terminated)
        state = env.reset()[0] if terminated or truncated else next_state

        if step > learning_starts:
            states, actions, rewards, next_states, ends = buffer.sample(batch_size)
            with torch.no_grad():
                best = q_network(next_states).argmax(dim=1, keepdim=True)
                next_value = target_network(next_states).gather(1, best).squeeze(1)
                target = rewards + gamma * (1 - ends) * next_value
            value = q_network(states).gather(1, actions.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(value, target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q_network.parameters(), 10.0)
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(target_network.parameters(), q_network.parameters()):
                    slow.lerp_(fast, tau)

        if step % 1000 == 0:
            mean_return, success = evaluate(q_network)
            print(f"step {step:5d}  epsilon {epsilon:.2f}  return {mean_return:.3f}  goal reached {success:.2f}")


if __name__ == "__main__":
    main()
