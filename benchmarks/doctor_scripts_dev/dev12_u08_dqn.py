"""Deep Q learning: keep a cart on a hilltop. The tiny environment is written below."""
import math
import os
import random
import tempfile
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class Hilltop:
    """State: position and speed. Left of and right of the top the cart runs away; |position| > 1 ends the episode."""

    def __init__(self, seed=0, limit=150):
        self.rng = np.random.default_rng(seed)
        self.limit = limit
        self.n_actions, self.n_observations = 2, 2

    def reset(self):
        self.state = self.rng.uniform(-0.15, 0.15, 2).astype(np.float32)
        self.steps = 0
        return self.state

    def step(self, action):
        position, speed = self.state
        push = 1.6 if action == 1 else -1.6
        force = 4.0 * position + push + 0.6 * self.rng.standard_normal()
        self.state = self.state + np.array([0.06 * speed, 0.06 * force], dtype=np.float32)
        self.steps += 1
        terminated = bool(abs(self.state[0]) > 1.0)
        truncated = self.steps >= self.limit
        return self.state, 1.0, terminated, truncated


Transition = namedtuple("Transition", ("state", "action", "next_state", "reward", "terminated"))


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, n_observations, n_actions):
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 64)
        self.layer2 = nn.Linear(64, 64)
        self.layer3 = nn.Linear(64, n_actions)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


BATCH_SIZE = 64
GAMMA = 0.97
EPS_START = 0.9
EPS_END = 0.05
EPS_DECAY = 800
TARGET_EVERY = 100
LR = 1e-3
STEPS = 4000
LEARN_AFTER = 200

random.seed(5)
torch.manual_seed(5)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

env = Hilltop(seed=5)
policy_net = DQN(env.n_observations, env.n_actions).to(device)
target_net = DQN(env.n_observations, env.n_actions).to(device)
target_net.load_state_dict(policy_net.state_dict())
optimizer = optim.Adam(policy_net.parameters(), lr=LR)
memory = ReplayMemory(5000)
steps_done = 0


def epsilon():
    return EPS_END + (EPS_START - EPS_END) * math.exp(-1.0 * steps_done / EPS_DECAY)


@torch.no_grad()
def greedy(state):
    return policy_net(torch.as_tensor(state, device=device).unsqueeze(0)).argmax(dim=1).item()


def select_action(state):
    global steps_done
    eps = epsilon()
    steps_done += 1
    if random.random() > eps:
        return greedy(state)
    return random.randrange(env.n_actions)


def optimize_model():
    batch = Transition(*zip(*memory.sample(BATCH_SIZE)))
    state_batch = torch.as_tensor(np.stack(batch.state), device=device)
    next_state_batch = torch.as_tensor(np.stack(batch.next_state), device=device)
    action_batch = torch.tensor(batch.action, device=device).unsqueeze(1)
    reward_batch = torch.tensor(batch.reward, dtype=torch.float32, device=device)
    terminated = torch.tensor(batch.terminated, dtype=torch.float32, device=device)

    state_action_values = policy_net(state_batch).gather(1, action_batch)
    with torch.no_grad():
        next_state_values = target_net(next_state_batch).max(1).values
    expected_state_action_values = reward_batch + GAMMA * next_state_values * (1 - terminated)

    loss = F.smooth_l1_loss(state_action_values, expected_state_action_values.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    return loss.item(), state_action_values.mean().item()


def evaluate(episodes=12):
    test_env = Hilltop(seed=99)
    lengths = []
    for _ in range(episodes):
        state, over, length = test_env.reset(), False, 0
        while not over:
            state, _, terminated, truncated = test_env.step(greedy(state))
            over = terminated or truncated
            length += 1
        lengths.append(length)
    return sum(lengths) / len(lengths)


def main():
    folder = tempfile.mkdtemp(prefix="dqn_")
    recent, best = deque(maxlen=20), 0.0
    print(f"untrained: {evaluate():.1f} of {env.limit} steps")
    state, length = env.reset(), 0
    loss = value = float("nan")
    for step in range(1, STEPS + 1):
        action = select_action(state)
        next_state, reward, terminated, truncated = env.step(action)
        memory.push(state, action, next_state, reward, terminated)
        state = next_state
        length += 1
        if terminated or truncated:
            recent.append(length)
            state, length = env.reset(), 0
        if step > LEARN_AFTER:
            loss, value = optimize_model()
            if step % TARGET_EVERY == 0:
                target_net.load_state_dict(policy_net.state_dict())
        if step % 1000 == 0:
            score = evaluate()
            print(
                f"step {step:5d}  eps {epsilon():.2f}  loss {loss:.4f}  Q {value:6.2f}  "
                f"training episodes {np.mean(recent):6.1f}  greedy {score:.1f}"
            )
            if score >= best:
                best = score
                torch.save(policy_net.state_dict(), os.path.join(folder, "policy.pt"))
    print(f"final greedy episode length {score:.1f} (best {best:.1f}, limit {env.limit})")


if __name__ == "__main__":
    main()
