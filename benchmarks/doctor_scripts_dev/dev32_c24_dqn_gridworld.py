"""Double DQN in a small grid world with walls and a pit."""

import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

MAP = ["......", ".##.#.", ".....P", ".#.##.", ".#....", "...#.G"]
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
GAMMA, BATCH, SYNC, LIMIT = 0.95, 64, 200, 40


class GridWorld:
    free = [(r, c) for r in range(6) for c in range(6) if MAP[r][c] == "."]

    def observation(self):
        state = torch.zeros(36)
        state[self.row * 6 + self.column] = 1.0
        return state

    def reset(self):
        (self.row, self.column), self.steps = random.choice(self.free), 0
        return self.observation()

    def step(self, action):
        row, column = self.row + MOVES[action][0], self.column + MOVES[action][1]
        if 0 <= row < 6 and 0 <= column < 6 and MAP[row][column] != "#":
            self.row, self.column = row, column
        self.steps += 1
        place = MAP[self.row][self.column]
        reward = {"G": 1.0, "P": -1.0}.get(place, -0.02)
        terminated = place in "GP"
        truncated = self.steps >= LIMIT and not terminated
        return self.observation(), reward, terminated, truncated


class QNetwork(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(36, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


class Replay:
    def __init__(self, capacity=10000):
        self.rows = deque(maxlen=capacity)

    def push(self, *row):
        self.rows.append(row)

    def sample(self, count):
        states, actions, rewards, nexts, ends = zip(*random.sample(self.rows, count))
        return (
            torch.stack(states),
            torch.tensor(actions),
            torch.tensor(rewards),
            torch.stack(nexts),
            torch.tensor(ends, dtype=torch.float32),
        )


def evaluate(network, env):
    """Share of free cells from which the greedy policy reaches the goal, and the mean return."""
    reached, returns = 0, 0.0
    for start in env.free:
        env.reset()
        env.row, env.column = start
        state, done = env.observation(), False
        while not done:
            with torch.no_grad():
                action = int(network(state).argmax())
            state, reward, terminated, truncated = env.step(action)
            returns += reward
            done = terminated or truncated
        reached += reward == 1.0
    return reached / len(env.free), returns / len(env.free)


def main(total=9000, warmup=500):
    random.seed(0)
    torch.manual_seed(0)
    env, test_env, replay = GridWorld(), GridWorld(), Replay()
    online, target = QNetwork(), QNetwork()
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
    state = env.reset()
    for step in range(1, total + 1):
        epsilon = max(0.05, 1 - step / 5000)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(online(state).argmax())
        following, reward, terminated, truncated = env.step(action)
        replay.push(state, action, reward, following, terminated)
        state = env.reset() if terminated or truncated else following

        if step >= warmup:
            s, a, r, n, end = replay.sample(BATCH)
            value = online(s).gather(1, a[:, None]).squeeze(1)
            with torch.no_grad():
                choice = online(n).argmax(1, keepdim=True)
                goal = r + GAMMA * (1 - end) * target(n).gather(1, choice).squeeze(1)
            loss = F.smooth_l1_loss(value, goal)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(online.parameters(), 10.0)
            optimizer.step()
            if step % SYNC == 0:
                target.load_state_dict(online.state_dict())
            if step % 500 == 0:
                share, score = evaluate(online, test_env)
                print(f"step {step} epsilon {epsilon:.2f} loss {loss.item():.4f} goal {share:.2f} return {score:.3f}")


if __name__ == "__main__":
    main()
