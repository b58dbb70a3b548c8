"""Double DQN on a small corridor grid written here: replay buffer, soft target updates, epsilon schedule, greedy evaluation."""
import math
import random
from collections import deque, namedtuple
from itertools import count

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward'))
BATCH_SIZE, GAMMA, TAU, LR = 64, 0.95, 0.02, 1e-3
EPS_START, EPS_END, EPS_DECAY = 0.95, 0.05, 1200

class GridEnv:
    """6x6, a wall with one gap, goal in the far corner; -0.02 a step, +1 at the goal; 50 steps at most."""
    moves = [(0, 1), (1, 0), (0, -1), (-1, 0)]

    def reset(self):
        self.pos, self.t = (random.randrange(6), random.randrange(2)), 0
        return self.obs()

    def obs(self):
        v = torch.zeros(12)
        v[self.pos[0]], v[6 + self.pos[1]] = 1, 1
        return v

    def step(self, a):
        self.t += 1
        y, x = self.pos[0] + self.moves[a][0], self.pos[1] + self.moves[a][1]
        if 0 <= y < 6 and 0 <= x < 6 and not (x == 3 and y != 1):
            self.pos = (y, x)
        done = self.pos == (5, 5)
        return self.obs(), 1.0 if done else -0.02, done, self.t >= 50

class ReplayMemory(object):
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)

class DuelingQ(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.v, self.a = nn.Linear(12, 64), nn.Linear(64, 1), nn.Linear(64, 4)

    def forward(self, x):
        h = F.relu(self.f(x))
        a = self.a(h)
        return self.v(h) + a - a.mean(-1, keepdim=True)

random.seed(3)
torch.manual_seed(3)
env, memory = GridEnv(), ReplayMemory(5000)
policy_net, target_net = DuelingQ(), DuelingQ()
target_net.load_state_dict(policy_net.state_dict())
optimizer = optim.AdamW(policy_net.parameters(), lr=LR, amsgrad=True)
steps_done = 0

def select_action(state):
    global steps_done
    eps = EPS_END + (EPS_START - EPS_END) * math.exp(-steps_done / EPS_DECAY)
    steps_done += 1
    if random.random() < eps:
        return random.randrange(4)
    with torch.no_grad():
        return policy_net(state).argmax().item()

def optimize_model():
    if len(memory) < 4 * BATCH_SIZE:
        return
    batch = Transition(*zip(*memory.sample(BATCH_SIZE)))
    non_final = torch.tensor([s is not None for s in batch.next_state])
    nxt = torch.stack([s for s in batch.next_state if s is not None])
    q = policy_net(torch.stack(batch.state)).gather(1, torch.tensor(batch.action)[:, None]).squeeze(1)
    next_values = torch.zeros(BATCH_SIZE)
    with torch.no_grad():
        pick = policy_net(nxt).argmax(1, keepdim=True)
        next_values[non_final] = target_net(nxt).gather(1, pick).squeeze(1)
    loss = F.smooth_l1_loss(q, torch.tensor(batch.reward) + GAMMA * next_values)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    sd, td = policy_net.state_dict(), target_net.state_dict()
    for key in sd:
        td[key] = sd[key] * TAU + td[key] * (1 - TAU)
    target_net.load_state_dict(td)

def greedy(n=30):
    e, wins, steps = GridEnv(), 0, 0
    for _ in range(n):
        s = e.reset()
        for t in count(1):
            with torch.no_grad():
                s, r, done, trunc = e.step(policy_net(s).argmax().item())
            if done or trunc:
                wins, steps = wins + done, steps + t
                break
    return wins / n, steps / n

for i_episode in range(220):
    state, ret = env.reset(), 0.0
    for t in count():
        action = select_action(state)
        observation, reward, terminated, truncated = env.step(action)
        ret += reward
        memory.push(state, action, None if terminated else observation, reward)
        state = observation
        optimize_model()
        if terminated or truncated:
            break
    if i_episode % 20 == 19:
        print(f"episode {i_episode} return {ret:.2f} length {t + 1} greedy success/steps {greedy()}")
