"""Reinforcement learning from logged data alone: conservative double Q-learning on a slippery grid.

The logs come from a clumsy policy; the environment serves for the test of the learned one only.
"""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SIZE, LIMIT, SLIP = 6, 40, 0.1
GOAL, PITS = (5, 5), {(1, 3), (3, 1), (4, 4)}
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]


class Grid:
    def __init__(self, rng):
        self.rng = rng

    def observe(self):
        observation = np.zeros(2 * SIZE, dtype=np.float32)
        observation[self.row] = 1.0
        observation[SIZE + self.col] = 1.0
        return observation

    def reset(self):
        while True:
            self.row, self.col = (int(v) for v in self.rng.integers(0, SIZE, 2))
            if (self.row, self.col) != GOAL and (self.row, self.col) not in PITS:
                break
        self.time = 0
        return self.observe()

    def step(self, action):
        """Returns observation, reward, terminated, truncated."""
        if self.rng.random() < SLIP:
            action = int(self.rng.integers(4))
        dy, dx = MOVES[action]
        self.row = min(max(self.row + dy, 0), SIZE - 1)
        self.col = min(max(self.col + dx, 0), SIZE - 1)
        self.time += 1
        place = (self.row, self.col)
        reward = 1.0 if place == GOAL else -1.0 if place in PITS else -0.01
        terminated = place == GOAL or place in PITS
        return self.observe(), reward, terminated, not terminated and self.time >= LIMIT


def clumsy_policy(env):
    """Half the time any move, else one towards the goal, pits or not."""
    if env.rng.random() < 0.5:
        return int(env.rng.integers(4))
    towards = [action for action, less in ((1, env.row < GOAL[0]), (3, env.col < GOAL[1])) if less]
    return int(env.rng.choice(towards))


def collect(env, episodes):
    rows, successes = [], 0
    for _ in range(episodes):
        observation, over = env.reset(), False
        while not over:
            action = clumsy_policy(env)
            following, reward, terminated, truncated = env.step(action)
            rows.append((observation, action, reward, following, terminated))
            observation, over = following, terminated or truncated
        successes += reward > 0
    columns = zip(*rows)
    dtypes = (np.float32, np.int64, np.float32, np.float32, np.float32)
    data = [torch.from_numpy(np.array(column, dtype=dtype)) for column, dtype in zip(columns, dtypes)]
    return data, successes / episodes


class QNetwork(nn.Module):
    def __init__(self, inputs=2 * SIZE, actions=4, hidden=96):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
        )

    def forward(self, x):
        return self.net(x)


class OfflineAgent:
    def __init__(self, gamma=0.95, lr=1e-3, tau=0.01, alpha=0.02):
        self.q = QNetwork()
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.q.parameters(), lr=lr)
        self.gamma, self.tau, self.alpha = gamma, tau, alpha

    def losses(self, batch):
        observation, action, reward, following, terminated = batch
        values = self.q(observation)
        chosen = values.gather(1, action[:, None]).squeeze(1)
        with torch.no_grad():
            best = self.q(following).argmax(dim=1, keepdim=True)
            future = self.target(following).gather(1, best).squeeze(1)
            # an episode that was cut off at the limit goes on in thought: only real ends stop the sum
            wanted = reward + self.gamma * (1 - terminated) * future
        bellman = F.smooth_l1_loss(chosen, wanted)
        conservative = (values.logsumexp(dim=1) - chosen).mean()
        return bellman, conservative

    def update(self, batch):
        bellman, conservative = self.losses(batch)
        loss = bellman + self.alpha * conservative
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.q.parameters(), 10.0)
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.q.parameters()):
                slow.lerp_(fast, self.tau)
        return bellman.item()

    @torch.no_grad()
    def act(self, observation):
        return int(self.q(torch.from_numpy(observation)[None]).argmax(dim=1))


def play(agent, episodes, seed):
    env = Grid(np.random.default_rng(seed))
    returns, successes = [], 0
    for _ in range(episodes):
        observation, total, over = env.reset(), 0.0, False
        while not over:
            observation, reward, terminated, truncated = env.step(agent.act(observation))
            total += reward
            over = terminated or truncated
        returns.append(total)
        successes += reward > 0
    return float(np.mean(returns)), successes / episodes


def main():
    torch.manual_seed(0)
    env = Grid(np.random.default_rng(0))
    data, logged_success = collect(env, 2500)
    held_out, _ = collect(env, 250)
    print(f"{len(data[0])} logged transitions; the clumsy policy reaches the goal in {logged_success:.1%}")

    agent = OfflineAgent()
    batch_size, updates_per_epoch = 256, 200
    for epoch in range(1, 26):
        total = 0.0
        for _ in range(updates_per_epoch):
            index = torch.randint(0, len(data[0]), (batch_size,))
            total += agent.update([column[index] for column in data])
        with torch.no_grad():
            held_error = agent.losses(held_out)[0].item()
        mean_return, success = play(agent, episodes=100, seed=1000)
        print(
            f"epoch {epoch:2d}: bellman {total / updates_per_epoch:.5f} held out {held_error:.5f} "
            f"return {mean_return:+.3f} goal reached {success:.1%}"
        )


if __name__ == "__main__":
    main()
