"""
Deep Q-learning from scratch
============================
A cart on a hilltop has to be kept from rolling down. Every step it stays up is worth one point;
when it leaves the interval [-1, 1] the episode is over. Episodes are cut after 200 steps.
"""

import math
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

SEED = 5
random.seed(SEED)
torch.manual_seed(SEED)

######################################################################
# The environment


class Hilltop:
    max_steps = 200

    def __init__(self, seed):
        self.random = random.Random(seed)

    def observe(self):
        return [self.x, self.v]

    def reset(self):
        self.x = self.random.uniform(-0.3, 0.3)
        self.v = self.random.uniform(-0.3, 0.3)
        self.t = 0
        return self.observe()

    def step(self, action):
        push = 1.0 if action == 1 else -1.0
        self.v += 0.1 * (self.x + push) + self.random.gauss(0, 0.02)
        self.x += 0.1 * self.v
        self.t += 1
        terminated = abs(self.x) > 1.0
        truncated = self.t >= self.max_steps
        return self.observe(), 1.0, terminated, truncated


######################################################################
# Settings

GAMMA = 0.95
BATCH_SIZE = 64
LR = 1e-3
EPS_START = 1.0
EPS_END = 0.05
EPS_DECAY = 1500
TARGET_EVERY = 100
LEARN_START = 500
TOTAL_STEPS = 12000

######################################################################
# Network and replay memory


def make_net():
    return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


policy_net = make_net()
target_net = make_net()
target_net.load_state_dict(policy_net.state_dict())
optimizer = optim.Adam(policy_net.parameters(), lr=LR)
memory = deque(maxlen=10000)
env = Hilltop(SEED)
losses = deque(maxlen=1000)
episode_lengths = deque(maxlen=20)


def select_action(state, eps):
    if random.random() < eps:
        return random.randrange(2)
    with torch.no_grad():
        return int(policy_net(torch.tensor([state])).argmax(1))


######################################################################
# One step of optimization


def optimize_model():
    batch = random.sample(memory, BATCH_SIZE)
    states, actions, rewards, next_states, dones = zip(*batch)
    states = torch.tensor(states)
    actions = torch.tensor(actions)
    rewards = torch.tensor(rewards)
    next_states = torch.tensor(next_states)
    dones = torch.tensor(dones, dtype=torch.float32)

    q = policy_net(states).gather(1, actions.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        next_q = target_net(next_states).max(1).values
        target = rewards + GAMMA * next_q * (1 - dones)
    loss = F.smooth_l1_loss(q, target)

    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy_net.parameters(), 10.0)
    optimizer.step()
    losses.append(loss.item())


def play_greedy(episodes=5):
    test_env = Hilltop(1000)
    lengths = []
    for _ in range(episodes):
        state, over = test_env.reset(), False
        while not over:
            state, _, terminated, truncated = test_env.step(select_action(state, 0.0))
            over = terminated or truncated
        lengths.append(test_env.t)
    return sum(lengths) / episodes


######################################################################
# Main loop

state = env.reset()
for step in range(1, TOTAL_STEPS + 1):
    eps = EPS_END + (EPS_START - EPS_END) * math.exp(-step / EPS_DECAY)
    action = select_action(state, eps)
    next_state, reward, terminated, truncated = env.step(action)
    memory.append((state, action, reward, next_state, terminated))
    state = next_state

    if terminated or truncated:
        episode_lengths.append(env.t)
        state = env.reset()

    if step > LEARN_START:
        optimize_model()

    if step % TARGET_EVERY == 0:
        target_net.load_state_dict(policy_net.state_dict())  # refresh

    if step % 1000 == 0:
        mean_loss = sum(losses) / max(1, len(losses))
        mean_length = sum(episode_lengths) / max(1, len(episode_lengths))
        print(f"step {step:5d} eps {eps:.2f} loss {mean_loss:.4f} train length {mean_length:.1f} greedy {play_greedy():.1f}")

print("final greedy length over 20 episodes:", play_greedy(20), "of", Hilltop.max_steps)
