"""Double DQN in a small grid world: replay, epsilon that falls, a target network that follows slowly."""
import random
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

SIZE, GOAL = 5, (4, 4)
PITS = {(1, 3), (3, 1)}
WALLS = {(1, 1), (2, 3)}
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
STARTS = [
    (r, c) for r in range(SIZE) for c in range(SIZE) if (r, c) != GOAL and (r, c) not in PITS and (r, c) not in WALLS
]


@dataclass
class Args:
    seed: int = 0
    steps: int = 9000
    warmup: int = 300
    batch_size: int = 64
    capacity: int = 4000
    gamma: float = 0.95
    lr: float = 1e-3
    tau: float = 0.02
    epsilon_last: float = 0.05
    epsilon_steps: int = 5000
    report: int = 600


class Grid:
    """+1 at the goal, -1 in a pit (both end the episode), -0.02 for every other move; cut off after 30 moves."""

    limit = 30

    def reset(self, start=None):
        self.place, self.moves = start or random.choice(STARTS), 0
        return self.observe()

    def observe(self):
        one_hot = torch.zeros(SIZE * SIZE)
        one_hot[self.place[0] * SIZE + self.place[1]] = 1.0
        return one_hot

    def step(self, action):
        row, column = self.place[0] + MOVES[action][0], self.place[1] + MOVES[action][1]
        if 0 <= row < SIZE and 0 <= column < SIZE and (row, column) not in WALLS:
            self.place = (row, column)
        self.moves += 1
        if self.place == GOAL:
            return self.observe(), 1.0, True, False
        if self.place in PITS:
            return self.observe(), -1.0, True, False
        return self.observe(), -0.02, False, self.moves >= self.limit


class Replay:
    def __init__(self, capacity):
        self.capacity, self.count = capacity, 0
        self.states, self.nexts = torch.zeros(capacity, SIZE * SIZE), torch.zeros(capacity, SIZE * SIZE)
        self.actions = torch.zeros(capacity, dtype=torch.long)
        self.rewards, self.terminals = torch.zeros(capacity), torch.zeros(capacity)

    def add(self, state, action, reward, following, terminal):
        i = self.count % self.capacity
        self.states[i], self.actions[i], self.rewards[i] = state, action, reward
        self.nexts[i], self.terminals[i] = following, float(terminal)
        self.count += 1

    def sample(self, size):
        i = torch.randint(0, min(self.count, self.capacity), (size,))
        return self.states[i], self.actions[i], self.rewards[i], self.nexts[i], self.terminals[i]


def q_network():
    return nn.Sequential(nn.Linear(SIZE * SIZE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


@torch.no_grad()
def evaluate(network):
    """One greedy episode from every start."""
    network.eval()
    env, reached, returns = Grid(), 0, 0.0
    for start in STARTS:
        state, over = env.reset(start), False
        while not over:
            state, reward, terminated, truncated = env.step(network(state).argmax().item())
            returns += reward
            over = terminated or truncated
        reached += env.place == GOAL
    network.train()
    return reached / len(STARTS), returns / len(STARTS)


def main(args=Args()):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    online, target = q_network(), q_network()
    target.load_state_dict(online.state_dict())
    target.requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=args.lr)
    replay, env = Replay(args.capacity), Grid()
    state, losses = env.reset(), []
    for step in range(1, args.steps + 1):
        epsilon = max(args.epsilon_last, 1 - (1 - args.epsilon_last) * step / args.epsilon_steps)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = online(state).argmax().item()
        following, reward, terminated, truncated = env.step(action)
        replay.add(state, action, reward, following, terminated)  # a cut-off episode has not ended
        state = env.reset() if terminated or truncated else following

        if step > args.warmup:
            states, actions, rewards, nexts, terminals = replay.sample(args.batch_size)
            with torch.no_grad():
                best = online(nexts).argmax(1, keepdim=True)
                values = target(nexts).gather(1, best).squeeze(1)
                wanted = rewards + args.gamma * (1 - terminals) * values
            predicted = online(states).gather(1, actions.unsqueeze(1)).squeeze(1)
            loss = F.smooth_l1_loss(predicted, wanted)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(online.parameters(), 10.0)
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), online.parameters()):
                    slow.lerp_(fast, args.tau)
            losses.append(loss.item())

        if step % args.report == 0:
            reached, returns = evaluate(online)
            mean_loss = sum(losses[-args.report :]) / len(losses[-args.report :])
            print(f"step {step} epsilon {epsilon:.2f} loss {mean_loss:.5f} reached {reached:.2f} return {returns:.3f}")


if __name__ == "__main__":
    main()
