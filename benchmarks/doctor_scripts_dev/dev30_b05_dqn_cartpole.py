# %% [markdown]
# # Deep Q-learning: balance a pole on a cart (own simulation, no gym needed)

# %%
import math
import random

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

SEED = 3
random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)

TOTAL_STEPS = 18000
WARMUP_STEPS = 500
BATCH_SIZE = 128
GAMMA = 0.99
TAU = 0.01
LR = 5e-4
EPS_START, EPS_END, EPS_DECAY = 0.9, 0.05, 1500
EVAL_EVERY = 1500


# %%
class CartPole:
    """The classic: one point for each step, over when the pole falls; cut off after 200 steps."""

    def __init__(self, seed, max_steps=200):
        self.rng = np.random.default_rng(seed)
        self.max_steps = max_steps

    def reset(self):
        self.state = self.rng.uniform(-0.05, 0.05, 4).tolist()
        self.steps = 0
        return np.array(self.state, dtype=np.float32)

    def step(self, action):
        x, v, angle, spin = self.state
        force = 10.0 if action == 1 else -10.0
        sin, cos = math.sin(angle), math.cos(angle)
        temp = (force + 0.05 * spin * spin * sin) / 1.1
        spin_acc = (9.8 * sin - cos * temp) / (0.5 * (4.0 / 3.0 - 0.1 * cos * cos / 1.1))
        acc = temp - 0.05 * spin_acc * cos / 1.1
        self.state = [x + 0.02 * v, v + 0.02 * acc, angle + 0.02 * spin, spin + 0.02 * spin_acc]
        self.steps += 1
        terminated = abs(self.state[0]) > 2.4 or abs(self.state[2]) > 12 * math.pi / 180
        truncated = self.steps >= self.max_steps
        return np.array(self.state, dtype=np.float32), 1.0, terminated, truncated


# %%
class ReplayMemory:
    def __init__(self, capacity):
        self.capacity, self.size, self.position = capacity, 0, 0
        self.states = torch.zeros(capacity, 4)
        self.actions = torch.zeros(capacity, dtype=torch.long)
        self.rewards = torch.zeros(capacity)
        self.next_states = torch.zeros(capacity, 4)
        self.terminated = torch.zeros(capacity)

    def push(self, state, action, reward, next_state, terminated):
        i = self.position
        self.states[i] = torch.from_numpy(state)
        self.actions[i] = action
        self.rewards[i] = reward
        self.next_states[i] = torch.from_numpy(next_state)
        self.terminated[i] = float(terminated)
        self.position = (i + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, count):
        rows = torch.randint(self.size, (count,))
        return (
            self.states[rows],
            self.actions[rows],
            self.rewards[rows],
            self.next_states[rows],
            self.terminated[rows],
        )


def make_network():
    return nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))


# %%
policy_net = make_network()
target_net = make_network()
target_net.load_state_dict(policy_net.state_dict())

optimizer = optim.AdamW(policy_net.parameters(), lr=LR, amsgrad=True)
criterion = nn.SmoothL1Loss()
memory = ReplayMemory(20000)


def select_action(state, step):
    epsilon = EPS_END + (EPS_START - EPS_END) * math.exp(-step / EPS_DECAY)
    if random.random() < epsilon:
        return random.randrange(2)
    with torch.no_grad():
        return policy_net(torch.from_numpy(state).unsqueeze(0)).argmax(1).item()


def optimize_model():
    states, actions, rewards, next_states, terminated = memory.sample(BATCH_SIZE)
    q_values = policy_net(states).gather(1, actions.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        next_values = target_net(next_states).max(1).values
        targets = rewards + GAMMA * next_values * (1 - terminated)
    loss = criterion(q_values, targets)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    return loss.item()


def update_target():
    target_state, policy_state = target_net.state_dict(), policy_net.state_dict()
    for key in policy_state:
        target_state[key] = TAU * policy_state[key] + (1 - TAU) * target_state[key]
    target_net.load_state_dict(target_state)


@torch.no_grad()
def evaluate(episodes=10):
    """Mean length of episodes played greedily, in an environment of its own."""
    test_env = CartPole(seed=1000)
    total = 0.0
    for _ in range(episodes):
        state, over = test_env.reset(), False
        while not over:
            action = policy_net(torch.from_numpy(state).unsqueeze(0)).argmax(1).item()
            state, reward, terminated, truncated = test_env.step(action)
            total += reward
            over = terminated or truncated
    return total / episodes


# %%
env = CartPole(seed=SEED)
state = env.reset()
losses, history = [], []

for step in range(1, TOTAL_STEPS + 1):
    action = select_action(state, step)
    next_state, reward, terminated, truncated = env.step(action)
    memory.push(state, action, reward, next_state, terminated)
    state = next_state
    if terminated or truncated:
        state = env.reset()

    if step > WARMUP_STEPS:
        losses.append(optimize_model())
        update_target()

    if step % EVAL_EVERY == 0:
        history.append(evaluate())
        print(f"step {step:6d}  loss {np.mean(losses[-500:]):.4f}  greedy return {history[-1]:.1f}")

print(f"mean of the last four evaluations: {np.mean(history[-4:]):.1f} of 200")
