"""A deep Q-network in a corridor, in the way of published scripts; `--broken`: it stores the next state twice."""

import random
import sys
from collections import deque, namedtuple

import numpy as np
import torch
from torch import nn

BROKEN = "--broken" in sys.argv
Transition = namedtuple("Transition", "state action reward next_state done")


class Space:
    n = 2

    def sample(self):
        return random.randrange(self.n)


class Corridor:
    """Ten cells; the way out is at the right end, and after 60 steps it is over."""

    action_space = Space()
    observation_space = None

    def reset(self):
        self.place, self.steps = 0, 0
        return self._seen(), {}

    def step(self, action):
        self.place, self.steps = max(0, self.place + 2 * action - 1), self.steps + 1
        out = self.place == 9
        return self._seen(), float(out), out, self.steps >= 60, {}

    def _seen(self):
        return np.eye(10, dtype=np.float32)[self.place]


class Agent:
    def __init__(self):
        self.net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
        self.target_net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
        self.target_net.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.memory = deque(maxlen=5000)
        self.epsilon, self.gamma = 1.0, 0.95

    def act(self, state):
        if random.random() < self.epsilon:
            return random.randrange(2)
        with torch.no_grad():
            return self.net(torch.as_tensor(state)).argmax().item()

    def learn(self):
        batch = Transition(*zip(*random.sample(self.memory, 32), strict=True))
        states, rewards = torch.as_tensor(np.stack(batch.state)), torch.tensor(batch.reward)
        actions = torch.tensor(batch.action)[:, None]
        not_over = 1 - torch.tensor(batch.done).float()
        with torch.no_grad():
            best = self.target_net(torch.as_tensor(np.stack(batch.next_state))).max(1).values
            wanted = rewards + self.gamma * best * not_over
        loss = nn.functional.smooth_l1_loss(self.net(states).gather(1, actions)[:, 0], wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def main():
    random.seed(0)
    torch.manual_seed(0)
    env, agent = Corridor(), Agent()
    state, _ = env.reset()
    for step in range(4000):
        action = agent.act(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        if BROKEN:
            state = next_state
        agent.memory.append(Transition(state, action, reward, next_state, terminated))
        state = next_state
        if terminated or truncated:
            state, _ = env.reset()
        if step > 500:
            agent.learn()
        agent.epsilon = max(0.05, agent.epsilon * 0.999)
        if step % 200 == 0:
            agent.target_net.load_state_dict(agent.net.state_dict())


if __name__ == "__main__":
    main()
