"""Double DQN: a cart in a 6 x 6 depot brings parcels to their shelf. Eight depots are run side by side."""
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


class Depots:
    """Slippery floor: one move in ten goes anywhere. An episode ends at the shelf, or is cut off after 25 moves."""

    def __init__(self, n, seed, size=6, limit=25):
        self.n, self.size, self.limit = n, size, limit
        self.rng = np.random.default_rng(seed)
        self.cart, self.shelf, self.clock = np.zeros((n, 2), int), np.zeros((n, 2), int), np.zeros(n, int)
        self.reset(np.ones(n, bool))

    def reset(self, which):
        for i in np.flatnonzero(which):
            cells = self.rng.choice(self.size**2, 2, replace=False)
            self.cart[i], self.shelf[i] = divmod(cells[0], self.size), divmod(cells[1], self.size)
            self.clock[i] = 0

    def observe(self):
        far = self.size - 1
        state = np.concatenate([2 * self.cart / far - 1, 2 * self.shelf / far - 1, (self.shelf - self.cart) / far], axis=1)
        return torch.tensor(state, dtype=torch.float32)

    def step(self, actions):
        slips = self.rng.random(self.n) < 0.1
        actions = np.where(slips, self.rng.integers(0, 4, self.n), actions)
        self.cart = np.clip(self.cart + MOVES[actions], 0, self.size - 1)
        self.clock += 1
        terminated = (self.cart == self.shelf).all(1)
        truncated = ~terminated & (self.clock >= self.limit)
        reward = np.where(terminated, 1.0, -0.02)
        following = self.observe()  # before any depot is reset
        self.reset(terminated | truncated)
        return following, torch.tensor(reward, dtype=torch.float32), terminated, truncated


class Replay:
    def __init__(self, capacity):
        self.capacity, self.size, self.next = capacity, 0, 0
        self.obs, self.following = torch.zeros(capacity, 6), torch.zeros(capacity, 6)
        self.action, self.reward = torch.zeros(capacity, dtype=torch.long), torch.zeros(capacity)
        self.ended = torch.zeros(capacity)

    def add(self, obs, action, reward, following, ended):
        index = (self.next + torch.arange(len(obs))) % self.capacity
        self.obs[index], self.action[index], self.reward[index] = obs, action, reward
        self.following[index], self.ended[index] = following, ended
        self.next = (self.next + len(obs)) % self.capacity
        self.size = min(self.size + len(obs), self.capacity)

    def sample(self, n):
        index = torch.randint(0, self.size, (n,))
        return self.obs[index], self.action[index], self.reward[index], self.following[index], self.ended[index]


@torch.no_grad()
def play_greedily(net, episodes=200):
    env = Depots(episodes, seed=999)
    finished, solved = np.zeros(episodes, bool), np.zeros(episodes, bool)
    for _ in range(env.limit):
        _, _, terminated, truncated = env.step(net(env.observe()).argmax(1).numpy())
        solved |= terminated & ~finished
        finished |= terminated | truncated
    return solved.mean()


def main(iterations=6000, gamma=0.95, tau=0.01, batch=64):
    torch.manual_seed(3)
    np.random.seed(3)
    net = nn.Sequential(nn.Linear(6, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 4))
    target = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    env, replay = Depots(8, seed=1), Replay(20000)
    losses = []
    for iteration in range(1, iterations + 1):
        epsilon = max(0.05, 1 - iteration / (0.4 * iterations))
        obs = env.observe()
        with torch.no_grad():
            action = net(obs).argmax(1)
        explore = torch.rand(8) < epsilon
        action = torch.where(explore, torch.randint(0, 4, (8,)), action)
        following, reward, terminated, _ = env.step(action.numpy())
        # an episode that was only cut off goes on for the values: `ended` is the shelf alone
        replay.add(obs, action, reward, following, torch.from_numpy(terminated).float())
        if replay.size < 800:
            continue

        o, a, r, f, ended = replay.sample(batch)
        with torch.no_grad():
            best = net(f).argmax(1, keepdim=True)
            goal = r + gamma * (1 - ended) * target(f).gather(1, best).squeeze(1)
        value = net(o).gather(1, a[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(value, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), net.parameters()):
                slow.lerp_(fast, tau)
        losses.append(loss.item())
        if iteration % 500 == 0:
            print(f"iteration {iteration}: epsilon {epsilon:.2f}, loss {np.mean(losses[-500:]):.5f}, "
                  f"parcels delivered {100 * play_greedily(net):.1f}%")


if __name__ == "__main__":
    main()
