# Values of moves in a small grid with walls, learned from replayed moves.
import random
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 8000
    learning_rate: float = 1e-3
    buffer_size: int = 20000
    gamma: float = 0.95
    tau: float = 0.02
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.6
    learning_starts: int = 500
    train_frequency: int = 2


SIZE = 5
WALLS = {(1, 1), (3, 3), (1, 3), (3, 1)}
GOAL = (4, 4)
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
FREE = [(r, c) for r in range(SIZE) for c in range(SIZE) if (r, c) not in WALLS and (r, c) != GOAL]


class Grid:
    def __init__(self, max_steps=40):
        self.max_steps = max_steps

    def observe(self):
        observation = torch.zeros(SIZE * SIZE)
        observation[self.cell[0] * SIZE + self.cell[1]] = 1.0
        return observation

    def reset(self, cell=None):
        self.cell, self.steps = cell or random.choice(FREE), 0
        return self.observe()

    def step(self, action):
        self.steps += 1
        row, column = self.cell[0] + MOVES[action][0], self.cell[1] + MOVES[action][1]
        if 0 <= row < SIZE and 0 <= column < SIZE and (row, column) not in WALLS:
            self.cell = (row, column)
        terminated = self.cell == GOAL
        reward = 1.0 if terminated else -0.02
        return self.observe(), reward, terminated, self.steps >= self.max_steps


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(SIZE * SIZE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size):
        self.obs, self.next_obs = torch.zeros(size, SIZE * SIZE), torch.zeros(size, SIZE * SIZE)
        self.actions = torch.zeros(size, dtype=torch.long)
        self.rewards, self.dones = torch.zeros(size), torch.zeros(size)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        i = self.pos
        self.obs[i], self.next_obs[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, float(done)
        self.pos = (i + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, count):
        index = torch.randint(0, self.size if self.full else self.pos, (count,))
        return self.obs[index], self.next_obs[index], self.actions[index], self.rewards[index], self.dones[index]


def linear_schedule(start_e, end_e, duration, t):
    return max(end_e, start_e + (end_e - start_e) / duration * t)


@torch.no_grad()
def evaluate(q_network):
    returns, arrived = [], 0
    for cell in FREE:
        env = Grid()
        obs, total, terminated, truncated = env.reset(cell), 0.0, False, False
        while not (terminated or truncated):
            obs, reward, terminated, truncated = env.step(int(q_network(obs[None]).argmax(1)))
            total += reward
        returns.append(total)
        arrived += terminated
    return sum(returns) / len(returns), arrived / len(FREE)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = Grid()
    q_network, target_network = QNetwork(), QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size)
    start_time = time.time()

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(obs[None]).argmax(1))
        next_obs, reward, terminated, truncated = env.step(action)
        # an episode that was cut off goes on as far as values are concerned
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                chosen = q_network(b_next_obs).argmax(dim=1, keepdim=True)
                next_value = target_network(b_next_obs).gather(1, chosen).squeeze(1)
                td_target = b_rewards + args.gamma * next_value * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            with torch.no_grad():
                for t, q in zip(target_network.parameters(), q_network.parameters()):
                    t.lerp_(q, args.tau)

        if (global_step + 1) % 2000 == 0:
            mean_return, share = evaluate(q_network)
            sps = int(global_step / (time.time() - start_time))
            print(f"step {global_step + 1}: epsilon {epsilon:.2f}, return {mean_return:.3f}, arrived {share:.2f}, {sps} steps/s")

    print("final return %.3f, arrived %.2f" % evaluate(q_network))
