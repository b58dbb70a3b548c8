"""Double DQN that walks to a goal in a grid; sixteen copies of the environment run side by side."""

import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


class VectorGrid:
    """Agents and goals on a size x size grid. Reaching the goal pays 1 and ends the episode, each move costs 0.05."""

    def __init__(self, count, size=5, limit=20, seed=0):
        self.count, self.size, self.limit = count, size, limit
        self.generator = torch.Generator().manual_seed(seed)
        self.agent = torch.zeros(count, 2, dtype=torch.long)
        self.goal = torch.zeros(count, 2, dtype=torch.long)
        self.steps = torch.zeros(count, dtype=torch.long)
        self.reset(torch.ones(count, dtype=torch.bool))

    def reset(self, which):
        n = int(which.sum())
        cells = torch.rand(n, self.size**2, generator=self.generator).argsort(1)[:, :2]
        self.agent[which] = torch.stack([cells[:, 0] // self.size, cells[:, 0] % self.size], 1)
        self.goal[which] = torch.stack([cells[:, 1] // self.size, cells[:, 1] % self.size], 1)
        self.steps[which] = 0

    def observe(self):
        scale = self.size - 1
        place = self.agent.float() / scale * 2 - 1
        offset = (self.goal - self.agent).float() / scale * 2
        return torch.cat([place, offset], dim=1)

    def step(self, action):
        self.agent = (self.agent + MOVES[action]).clamp(0, self.size - 1)
        self.steps = self.steps + 1
        terminated = (self.agent == self.goal).all(1)
        truncated = (self.steps >= self.limit) & ~terminated
        reward = torch.where(terminated, 1.0, -0.05)
        return self.observe(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, capacity, obs_dim):
        self.obs = torch.zeros(capacity, obs_dim)
        self.next_obs = torch.zeros(capacity, obs_dim)
        self.action = torch.zeros(capacity, dtype=torch.long)
        self.reward = torch.zeros(capacity)
        self.done = torch.zeros(capacity)
        self.capacity, self.position, self.full = capacity, 0, False

    def __len__(self):
        return self.capacity if self.full else self.position

    def add(self, obs, action, reward, next_obs, done):
        where = (self.position + torch.arange(len(obs))) % self.capacity
        self.obs[where], self.next_obs[where] = obs, next_obs
        self.action[where], self.reward[where], self.done[where] = action, reward, done.float()
        self.full = self.full or self.position + len(obs) >= self.capacity
        self.position = (self.position + len(obs)) % self.capacity

    def sample(self, size):
        where = torch.randint(0, len(self), (size,))
        return self.obs[where], self.action[where], self.reward[where], self.next_obs[where], self.done[where]


def make_q_network(obs_dim, actions=4, hidden=64):
    return nn.Sequential(
        nn.Linear(obs_dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
    )


def linear_schedule(start, end, duration, step):
    return max(end, start + (end - start) * step / duration)


@torch.no_grad()
def evaluate(q_network, episodes=200):
    env = VectorGrid(episodes, seed=1234)
    running = torch.ones(episodes, dtype=torch.bool)
    returns, reached = torch.zeros(episodes), torch.zeros(episodes, dtype=torch.bool)
    obs = env.observe()
    for _ in range(env.limit):
        obs, reward, terminated, truncated = env.step(q_network(obs).argmax(1))
        returns += reward * running
        reached |= terminated & running
        running &= ~(terminated | truncated)
    return returns.mean().item(), reached.float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=1200)
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--learning-starts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    env = VectorGrid(args.envs, seed=args.seed)
    obs = env.observe()
    obs_dim = obs.shape[1]
    q_network = make_q_network(obs_dim)
    target_network = copy.deepcopy(q_network).requires_grad_(False)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.lr)
    buffer = ReplayBuffer(8000, obs_dim)

    for iteration in range(args.iterations):
        epsilon = linear_schedule(1.0, 0.05, 0.5 * args.iterations, iteration)
        with torch.no_grad():
            greedy = q_network(obs).argmax(1)
        explore = torch.rand(args.envs) < epsilon
        action = torch.where(explore, torch.randint(0, 4, (args.envs,)), greedy)
        next_obs, reward, terminated, truncated = env.step(action)
        buffer.add(obs, action, reward, next_obs, terminated)
        env.reset(terminated | truncated)
        obs = env.observe()

        if iteration < args.learning_starts:
            continue
        s, a, r, s2, done = buffer.sample(args.batch_size)
        with torch.no_grad():
            best = q_network(s2).argmax(1, keepdim=True)
            target = r + args.gamma * (1 - done) * target_network(s2).gather(1, best).squeeze(1)
        value = q_network(s).gather(1, a[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(value, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for t, p in zip(target_network.parameters(), q_network.parameters()):
                t.lerp_(p, args.tau)
        if (iteration + 1) % 200 == 0:
            mean_return, success = evaluate(q_network)
            print(f"{iteration + 1:5d}  loss {loss.item():.4f}  eps {epsilon:.2f}  return {mean_return:.3f}  success {success:.2f}")


if __name__ == "__main__":
    main()
