"""Catch the falling ball: double DQN with replay and a slowly following target network, sixteen games at a time."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HEIGHT, WIDTH, ACTIONS = 8, 7, 3


class Catch:
    """The ball falls one row a step; the paddle goes left, stays or goes right; +1 for a catch, -1 for a miss."""

    def __init__(self, games, seed):
        self.games, self.rng = games, np.random.default_rng(seed)
        self.row, self.ball, self.paddle = (np.zeros(games, dtype=np.int64) for _ in range(3))
        self.restart(np.ones(games, dtype=bool))

    def restart(self, which):
        count = int(which.sum())
        self.row[which] = 0
        self.ball[which] = self.rng.integers(0, WIDTH, count)
        self.paddle[which] = self.rng.integers(0, WIDTH, count)

    def observe(self):
        board = np.zeros((self.games, HEIGHT, WIDTH), dtype=np.float32)
        index = np.arange(self.games)
        board[index, self.row, self.ball] = 1
        board[index, HEIGHT - 1, self.paddle] = 1
        return torch.from_numpy(board.reshape(self.games, -1))

    def step(self, actions):
        self.paddle = np.clip(self.paddle + actions.numpy() - 1, 0, WIDTH - 1)
        self.row = self.row + 1
        done = self.row == HEIGHT - 1
        reward = np.where(done, np.where(self.ball == self.paddle, 1.0, -1.0), 0.0).astype(np.float32)
        after = self.observe()
        self.restart(done)
        return after, torch.from_numpy(reward), torch.from_numpy(done.astype(np.float32))


class Replay:
    def __init__(self, capacity=20000):
        self.capacity, self.place, self.full = capacity, 0, False
        self.states = torch.zeros(capacity, HEIGHT * WIDTH)
        self.nexts = torch.zeros(capacity, HEIGHT * WIDTH)
        self.actions = torch.zeros(capacity, dtype=torch.long)
        self.rewards, self.dones = torch.zeros(capacity), torch.zeros(capacity)

    def __len__(self):
        return self.capacity if self.full else self.place

    def add(self, states, actions, rewards, nexts, dones):
        index = (self.place + torch.arange(len(states))) % self.capacity
        self.states[index], self.actions[index], self.rewards[index] = states, actions, rewards
        self.nexts[index], self.dones[index] = nexts, dones
        self.full = self.full or self.place + len(states) >= self.capacity
        self.place = (self.place + len(states)) % self.capacity

    def sample(self, count):
        index = torch.randint(0, len(self), (count,))
        return self.states[index], self.actions[index], self.rewards[index], self.nexts[index], self.dones[index]


class Agent:
    def __init__(self, gamma=0.95, lr=1e-3, tau=0.01):
        self.gamma, self.tau = gamma, tau
        self.online = nn.Sequential(
            nn.Linear(HEIGHT * WIDTH, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, ACTIONS)
        )
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=lr)
        self.updates = 0

    @torch.no_grad()
    def act(self, states, epsilon):
        greedy = self.online(states).argmax(1)
        anything = torch.randint(0, ACTIONS, (len(states),))
        return torch.where(torch.rand(len(states)) < epsilon, anything, greedy)

    def learn(self, batch):
        states, actions, rewards, nexts, dones = batch
        with torch.no_grad():
            best = self.online(nexts).argmax(1, keepdim=True)
            following = self.target(nexts).gather(1, best).squeeze(1)
            wanted = rewards + self.gamma * (1 - dones) * following
        values = self.online(states).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(values, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        self.updates += 1
        self.follow()
        return loss.item()

    @torch.no_grad()
    def follow(self):
        for slow, fast in zip(self.target.parameters(), self.online.parameters()):
            slow.lerp_(fast, self.tau)


def caught(agent, games=200):
    """The share of balls caught without any random action, in the same games each time."""
    env = Catch(games, seed=99)
    for _ in range(HEIGHT - 1):
        _, reward, _ = env.step(agent.act(env.observe(), 0.0))
    return (reward > 0).float().mean().item()


def main(ticks=10000, warmup=100, report=500):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    env, agent, replay = Catch(16, seed=0), Agent(), Replay()
    losses = []
    for tick in range(1, ticks + 1):
        explore = max(0.05, 1 - tick / 2500)
        states = env.observe()
        actions = agent.act(states, explore)
        nexts, rewards, dones = env.step(actions)
        replay.add(states, actions, rewards, nexts, dones)
        if tick > warmup:
            losses.append(agent.learn(replay.sample(128)))
        if tick % report == 0:
            print(f"tick {tick}  explore {explore:.2f}  loss {np.mean(losses):.4f}  caught {caught(agent):.3f}")
            losses.clear()


if __name__ == "__main__":
    main()
