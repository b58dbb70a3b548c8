"""Double DQN in a grid with walls, a pit and a goal; episodes that are cut off are not taken for ended ones."""

import copy
import random
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

MAP = [
    "......",
    ".##...",
    "...#.P",
    ".#.#..",
    ".#...#",
    "...#.G",
]
FREE = [(r, c) for r, row in enumerate(MAP) for c, cell in enumerate(row) if cell == "."]
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
GAMMA, LIMIT = 0.95, 40


class Grid:
    def reset(self, start=None):
        self.position = start or random.choice(FREE)
        self.time = 0
        return self.observe()

    def observe(self):
        observation = torch.zeros(len(MAP) * len(MAP[0]))
        observation[self.position[0] * len(MAP[0]) + self.position[1]] = 1.0
        return observation

    def step(self, action):
        row, column = self.position[0] + MOVES[action][0], self.position[1] + MOVES[action][1]
        if 0 <= row < len(MAP) and 0 <= column < len(MAP[0]) and MAP[row][column] != "#":
            self.position = (row, column)
        self.time += 1
        cell = MAP[self.position[0]][self.position[1]]
        reward = {"G": 1.0, "P": -1.0}.get(cell, -0.02)
        terminated = cell in "GP"
        truncated = not terminated and self.time >= LIMIT
        return self.observe(), reward, terminated, truncated


class Replay:
    def __init__(self, size):
        self.memory = deque(maxlen=size)

    def push(self, *transition):
        self.memory.append(transition)

    def sample(self, count):
        states, actions, rewards, following, ended = zip(*random.sample(self.memory, count))
        return (
            torch.stack(states),
            torch.tensor(actions),
            torch.tensor(rewards),
            torch.stack(following),
            torch.tensor(ended, dtype=torch.float32),
        )


def make_network():
    return nn.Sequential(nn.Linear(36, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, len(MOVES)))


class Agent:
    def __init__(self, lr=1e-3, sync=200):
        self.online = make_network()
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=lr)
        self.sync, self.updates = sync, 0

    @torch.no_grad()
    def act(self, state, epsilon=0.0):
        if random.random() < epsilon:
            return random.randrange(len(MOVES))
        return int(self.online(state).argmax())

    def learn(self, batch):
        states, actions, rewards, following, ended = batch
        values = self.online(states).gather(1, actions[:, None]).squeeze(1)
        with torch.no_grad():
            best = self.online(following).argmax(1, keepdim=True)
            future = self.target(following).gather(1, best).squeeze(1)
            goal = rewards + GAMMA * (1 - ended) * future
        loss = F.smooth_l1_loss(values, goal)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        self.updates += 1
        if self.updates % self.sync == 0:
            self.target.load_state_dict(self.online.state_dict())
        return loss.item()


def evaluate(agent):
    """Mean return, and share of starts that reach the goal, without chance."""
    env, returns, reached = Grid(), 0.0, 0
    for start in FREE:
        state, over = env.reset(start), False
        while not over:
            state, reward, terminated, truncated = env.step(agent.act(state))
            returns += reward
            over = terminated or truncated
        reached += reward == 1.0
    return returns / len(FREE), reached / len(FREE)


def main(steps=9000, warmup=500, batch=64):
    random.seed(0)
    torch.manual_seed(0)
    env, agent, replay = Grid(), Agent(), Replay(8000)
    state, losses = env.reset(), deque(maxlen=500)
    for step in range(1, steps + 1):
        epsilon = max(0.05, 1.0 - step / 5000)
        action = agent.act(state, epsilon)
        following, reward, terminated, truncated = env.step(action)
        replay.push(state, action, reward, following, terminated)
        state = env.reset() if terminated or truncated else following
        if step > warmup and step % 2 == 0:
            losses.append(agent.learn(replay.sample(batch)))
        if step % 1000 == 0:
            mean_return, reached = evaluate(agent)
            print(
                f"step {step:5d}  epsilon {epsilon:.2f}  loss {sum(losses) / max(1, len(losses)):.4f}"
                f"  return {mean_return:.3f}  reached {reached:.2f}"
            )


if __name__ == "__main__":
    main()
