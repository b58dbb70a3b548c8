"""Double DQN in a small grid whose goal lies elsewhere each episode."""
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class GridWorld:
    MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def __init__(self, size=5, limit=25, seed=0):
        self.size, self.limit = size, limit
        self.rng = random.Random(seed)

    def _obs(self):
        obs = np.zeros(4 * self.size, dtype=np.float32)
        for k, v in enumerate((*self.pos, *self.goal)):
            obs[k * self.size + v] = 1.0
        return obs

    def reset(self):
        self.t = 0
        self.goal = (self.rng.randrange(self.size), self.rng.randrange(self.size))
        self.pos = self.goal
        while self.pos == self.goal:
            self.pos = (self.rng.randrange(self.size), self.rng.randrange(self.size))
        return self._obs()

    def step(self, action):
        dy, dx = self.MOVES[action]
        self.pos = (min(max(self.pos[0] + dy, 0), self.size - 1), min(max(self.pos[1] + dx, 0), self.size - 1))
        self.t += 1
        terminated = self.pos == self.goal
        truncated = not terminated and self.t >= self.limit
        return self._obs(), (1.0 if terminated else -0.02), terminated, truncated


class QNetwork(nn.Module):
    def __init__(self, inputs, actions):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, actions))

    def forward(self, x):
        return self.net(x)


class ReplayBuffer:
    def __init__(self, capacity):
        self.memory = deque(maxlen=capacity)

    def push(self, *transition):
        self.memory.append(transition)

    def sample(self, n):
        s, a, r, s2, done = zip(*random.sample(self.memory, n))
        return (torch.from_numpy(np.stack(s)), torch.tensor(a), torch.tensor(r, dtype=torch.float32),
                torch.from_numpy(np.stack(s2)), torch.tensor(done, dtype=torch.float32))

    def __len__(self):
        return len(self.memory)


class Agent:
    def __init__(self, inputs, actions, gamma=0.95, lr=1e-3):
        self.actions, self.gamma = actions, gamma
        self.q, self.target = QNetwork(inputs, actions), QNetwork(inputs, actions)
        self.sync()
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=lr)
        self.memory = ReplayBuffer(10000)

    def sync(self):
        self.target.load_state_dict(self.q.state_dict())

    def act(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randrange(self.actions)
        with torch.no_grad():
            return self.q(torch.from_numpy(obs).unsqueeze(0)).argmax(1).item()

    def learn(self, batch_size):
        s, a, r, s2, done = self.memory.sample(batch_size)
        q = self.q(s).gather(1, a.unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            best = self.q(s2).argmax(1, keepdim=True)
            target = r + self.gamma * (1 - done) * self.target(s2).gather(1, best).squeeze(1)
        loss = F.smooth_l1_loss(q, target)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q.parameters(), 10.0)
        self.optimizer.step()
        return loss.item()


def evaluate(agent, episodes=100):
    env = GridWorld(seed=999)
    reached, returns = 0, []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            obs, reward, terminated, truncated = env.step(agent.act(obs, 0.0))
            total += reward
            over = terminated or truncated
        reached += terminated
        returns.append(total)
    return reached / episodes, float(np.mean(returns))


def train(steps=12000, warmup=500, batch_size=64, sync_every=200):
    random.seed(0)
    torch.manual_seed(0)
    env = GridWorld(seed=1)
    agent = Agent(4 * env.size, 4)
    obs, losses = env.reset(), []
    for step in range(1, steps + 1):
        epsilon = max(0.05, 1.0 - step / (0.5 * steps))
        action = agent.act(obs, epsilon)
        next_obs, reward, terminated, truncated = env.step(action)
        agent.memory.push(obs, action, reward, next_obs, terminated)
        obs = env.reset() if terminated or truncated else next_obs
        if step > warmup:
            losses.append(agent.learn(batch_size))
        if step % sync_every == 0:
            agent.sync()
        if step % 1000 == 0:
            reached, score = evaluate(agent)
            mean = np.mean(losses[-500:]) if losses else float("nan")
            print(f"step {step} epsilon {epsilon:.2f} loss {mean:.4f} reached {reached:.2f} return {score:.3f}")
    return agent


if __name__ == "__main__":
    train()
