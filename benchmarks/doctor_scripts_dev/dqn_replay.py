import random
from collections import deque, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward", "done"))
BATCH_SIZE, GAMMA, TAU, LR = 64, 0.9, 0.05, 1e-3
random.seed(0)
torch.manual_seed(0)


class Corridor:
    """Seven places in a row, reward at the right end; a step costs a little."""

    def reset(self):
        self.place, self.t = 3, 0
        return self.observe()

    def observe(self):
        return F.one_hot(torch.tensor(self.place), 7).float()

    def step(self, action):
        self.place = max(0, min(6, self.place + (1 if action == 1 else -1)))
        self.t += 1
        done = self.place == 6 or self.t >= 30
        return self.observe(), (1.0 if self.place == 6 else -0.02), done


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
        self.layer1, self.layer2 = nn.Linear(n_observations, 32), nn.Linear(32, 32)
        self.layer3 = nn.Linear(32, n_actions)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


policy_net, target_net = DQN(7, 2), DQN(7, 2)
target_net.load_state_dict(policy_net.state_dict())
optimizer = optim.AdamW(policy_net.parameters(), lr=LR, amsgrad=True)
memory = ReplayMemory(5000)
env = Corridor()
state = env.reset()
for _ in range(600):
    action = random.randrange(2)
    next_state, reward, done = env.step(action)
    memory.push(state, action, next_state, reward, done)
    state = env.reset() if done else next_state

for step in range(400):
    transitions = memory.sample(BATCH_SIZE)
    batch = Transition(*zip(*transitions))
    state_batch = torch.stack(batch.state)
    next_batch = torch.stack(batch.next_state)
    action_batch = torch.tensor(batch.action).unsqueeze(1)
    reward_batch = torch.tensor(batch.reward)
    not_done = 1.0 - torch.tensor(batch.done).float()
    state_action_values = policy_net(state_batch).gather(1, action_batch)
    with torch.no_grad():
        next_state_values = target_net(next_batch).max(1).values
    expected_state_action_values = (next_state_values * GAMMA * not_done) + reward_batch
    criterion = nn.SmoothL1Loss()
    loss = criterion(state_action_values, expected_state_action_values.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    with torch.no_grad():
        for p, q in zip(target_net.parameters(), policy_net.parameters()):
            p.mul_(1 - TAU).add_(TAU * q)
    if step % 100 == 0:
        print(step, loss.item())
