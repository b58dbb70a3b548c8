"""Deep Q-learning: keep a pole upright by pushing it left or right."""

import copy
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

GAMMA = 0.95
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
TOTAL_STEPS = 12000
LEARNING_STARTS = 500
EPSILON_STEPS = 3000
EPSILON_END = 0.05
SYNC_EVERY = 100
EVAL_EVERY = 1000


class PoleEnv:
    """One point for each step; ends when the pole leans too far, and is cut off after `limit` steps."""

    def __init__(self, limit=200, seed=0):
        self.limit = limit
        self.rng = random.Random(seed)

    def _observe(self):
        return [self.angle / 0.4, self.speed / 2.0]

    def reset(self):
        self.angle = self.rng.uniform(-0.1, 0.1)
        self.speed = self.rng.uniform(-0.1, 0.1)
        self.steps = 0
        return self._observe()

    def step(self, action):
        push = 6.0 if action == 1 else -6.0
        self.speed += 0.05 * (8.0 * math.sin(self.angle) + push + self.rng.gauss(0.0, 1.0))
        self.angle += 0.05 * self.speed
        self.steps += 1
        terminated = abs(self.angle) > 0.4
        truncated = self.steps >= self.limit
        return self._observe(), 1.0, terminated, truncated


class ReplayBuffer:
    def __init__(self, capacity, obs_size):
        self.capacity, self.size, self.position = capacity, 0, 0
        self.states = torch.zeros(capacity, obs_size)
        self.actions = torch.zeros(capacity, dtype=torch.long)
        self.rewards = torch.zeros(capacity)
        self.next_states = torch.zeros(capacity, obs_size)
        self.terminated = torch.zeros(capacity)

    def push(self, state, action, reward, next_state, terminated):
        i = self.position
        self.states[i] = torch.tensor(state)
        self.actions[i] = action
        self.rewards[i] = reward
        self.next_states[i] = torch.tensor(next_state)
        self.terminated[i] = float(terminated)
        self.position = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, count):
        rows = torch.randint(0, self.size, (count,))
        return (
            self.states[rows],
            self.actions[rows],
            self.rewards[rows],
            self.next_states[rows],
            self.terminated[rows],
        )


class QNetwork(nn.Module):
    def __init__(self, obs_size, n_actions):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(obs_size, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.layers(x)


@torch.no_grad()
def greedy(q_net, state):
    return int(q_net(torch.tensor(state).unsqueeze(0)).argmax(dim=1))


def evaluate(q_net, episodes=10):
    env = PoleEnv(seed=999)
    total = 0.0
    for _ in range(episodes):
        state, done = env.reset(), False
        while not done:
            state, reward, terminated, truncated = env.step(greedy(q_net, state))
            total += reward
            done = terminated or truncated
    return total / episodes


def optimize(q_net, target_net, buffer, optimizer):
    states, actions, rewards, next_states, terminated = buffer.sample(BATCH_SIZE)
    q_values = q_net(states).gather(1, actions.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        next_values = target_net(next_states).max(dim=1).values
        targets = rewards + GAMMA * next_values * (1 - terminated)
    loss = F.smooth_l1_loss(q_values, targets)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(q_net.parameters(), 10.0)
    optimizer.step()
    return loss.item()


def main():
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    env = PoleEnv(seed=1)
    q_net = QNetwork(2, 2)
    target_net = copy.deepcopy(q_net)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=LEARNING_RATE)
    buffer = ReplayBuffer(TOTAL_STEPS, 2)

    state, loss = env.reset(), 0.0
    for step in range(1, TOTAL_STEPS + 1):
        epsilon = max(EPSILON_END, 1.0 - step / EPSILON_STEPS)
        if random.random() < epsilon:
            action = random.randrange(2)
        else:
            action = greedy(q_net, state)
        next_state, reward, terminated, truncated = env.step(action)
        buffer.push(state, action, reward, next_state, terminated)
        state = next_state
        if terminated or truncated:
            state = env.reset()

        if step >= LEARNING_STARTS:
            loss = optimize(q_net, target_net, buffer, optimizer)
            if step % SYNC_EVERY == 0:
                target_net.load_state_dict(q_net.state_dict())
        if step % EVAL_EVERY == 0:
            print(f"step {step:5d} epsilon {epsilon:.2f} loss {loss:.4f} greedy return {evaluate(q_net):.1f} of 200")


if __name__ == "__main__":
    main()
