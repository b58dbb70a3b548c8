"""Double DQN in a small grid world with pits, in the way of the PyTorch DQN tutorial."""

import math
import random
from collections import deque, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward", "terminated"))

SIZE = 6
GOAL = (5, 5)
PITS = {(1, 3), (2, 3), (4, 1), (4, 2), (3, 5)}
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]


class GridWorld:
    """Reach the goal (+1), stay out of the pits (-1), each move costs a little; cut off after 40 moves."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def reset(self):
        free = [(r, c) for r in range(SIZE) for c in range(SIZE) if (r, c) not in PITS and (r, c) != GOAL]
        self.position, self.moves = self.rng.choice(free), 0
        return self.observe()

    def observe(self):
        state = torch.zeros(SIZE * SIZE)
        state[self.position[0] * SIZE + self.position[1]] = 1.0
        return state

    def step(self, action):
        row = min(max(self.position[0] + MOVES[action][0], 0), SIZE - 1)
        column = min(max(self.position[1] + MOVES[action][1], 0), SIZE - 1)
        self.position, self.moves = (row, column), self.moves + 1
        reward, terminated = -0.02, False
        if self.position == GOAL:
            reward, terminated = 1.0, True
        elif self.position in PITS:
            reward, terminated = -1.0, True
        return self.observe(), reward, terminated, self.moves >= 40


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        batch = Transition(*zip(*random.sample(self.memory, batch_size)))
        return (torch.stack(batch.state), torch.tensor(batch.action), torch.stack(batch.next_state),
                torch.tensor(batch.reward), torch.tensor(batch.terminated, dtype=torch.float32))

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, n_observations, n_actions):
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 64)
        self.layer2 = nn.Linear(64, 64)
        self.layer3 = nn.Linear(64, n_actions)

    def forward(self, x):
        return self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))


BATCH_SIZE, GAMMA, TAU, LR = 64, 0.97, 0.01, 1e-3
EPS_START, EPS_END, EPS_DECAY = 1.0, 0.05, 2000
STEPS, START = 9000, 300


def evaluate(policy_net, episodes=50):
    env = GridWorld(seed=777)
    returns, reached = [], 0
    for _ in range(episodes):
        state, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                action = policy_net(state).argmax().item()
            state, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
        reached += env.position == GOAL
    return sum(returns) / episodes, reached / episodes


def main():
    random.seed(1)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    env = GridWorld(seed=5)
    policy_net, target_net = DQN(SIZE * SIZE, 4), DQN(SIZE * SIZE, 4)
    target_net.load_state_dict(policy_net.state_dict())
    optimizer = torch.optim.AdamW(policy_net.parameters(), lr=LR, amsgrad=True)
    memory = ReplayMemory(5000)
    state, losses = env.reset(), []
    for step in range(1, STEPS + 1):
        epsilon = EPS_END + (EPS_START - EPS_END) * math.exp(-step / EPS_DECAY)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = policy_net(state).argmax().item()
        next_state, reward, terminated, truncated = env.step(action)
        memory.push(state, action, next_state, reward, terminated)
        state = env.reset() if terminated or truncated else next_state
        if len(memory) < START:
            continue

        states, actions, next_states, rewards, ended = memory.sample(BATCH_SIZE)
        values = policy_net(states).gather(1, actions[:, None]).squeeze(1)
        with torch.no_grad():
            best = policy_net(next_states).argmax(1, keepdim=True)
            next_values = target_net(next_states).gather(1, best).squeeze(1)
            expected = rewards + GAMMA * next_values * (1 - ended)
        loss = F.smooth_l1_loss(values, expected)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(policy_net.parameters(), 100)
        optimizer.step()
        with torch.no_grad():
            for target, source in zip(target_net.parameters(), policy_net.parameters()):
                target.lerp_(source, TAU)
        losses.append(loss.item())
        if step % 750 == 0:
            mean_return, success = evaluate(policy_net)
            print(f"step {step} epsilon {epsilon:.2f} loss {sum(losses[-500:]) / len(losses[-500:]):.4f} "
                  f"return {mean_return:.3f} success {success:.2f}")


if __name__ == "__main__":
    main()
