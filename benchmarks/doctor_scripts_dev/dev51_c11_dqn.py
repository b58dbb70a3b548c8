# Double DQN on a small grid with a pit, single file; slow target network, replay buffer in NumPy.
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    exp_name: str = "dqn_grid"
    seed: int = 1
    total_timesteps: int = 5000
    learning_rate: float = 1e-3
    buffer_size: int = 5000
    gamma: float = 0.95
    tau: float = 0.02
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 400
    train_frequency: int = 2


class GridEnv:
    """Five by five cells; start anywhere, reach the corner, keep out of the pit. 30 steps at most."""

    MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
    SIZE, LIMIT, GOAL, PIT = 5, 30, (4, 4), (2, 3)

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.starts = [(r, c) for r in range(self.SIZE) for c in range(self.SIZE) if (r, c) not in (self.GOAL, self.PIT)]

    def _obs(self):
        obs = np.zeros(2 * self.SIZE, dtype=np.float32)
        obs[self.pos[0]] = obs[self.SIZE + self.pos[1]] = 1.0
        return obs

    def reset(self, start=None):
        self.pos = start or self.starts[int(self.rng.integers(len(self.starts)))]
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        dr, dc = self.MOVES[action]
        self.pos = (min(max(self.pos[0] + dr, 0), self.SIZE - 1), min(max(self.pos[1] + dc, 0), self.SIZE - 1))
        self.steps += 1
        terminated = self.pos in (self.GOAL, self.PIT)
        truncated = not terminated and self.steps >= self.LIMIT
        reward = 1.0 if self.pos == self.GOAL else -1.0 if self.pos == self.PIT else -0.02
        return self._obs(), reward, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.count = size, 0

    def add(self, obs, next_obs, action, reward, done):
        i = self.count % self.size
        self.observations[i], self.next_observations[i] = obs, next_obs
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, done
        self.count += 1

    def sample(self, n):
        rows = np.random.randint(0, min(self.count, self.size), n)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(a[rows]) for a in arrays]


class QNetwork(nn.Module):
    def __init__(self, obs_dim=10, n_actions=4):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    return max((end_e - start_e) / duration * t + start_e, end_e)


@torch.no_grad()
def evaluate(q_network, env):
    """Greedy episodes from every cell: mean return, share that reach the goal."""
    returns, reached = [], 0
    for start in env.starts:
        obs, _ = env.reset(start)
        total, done = 0.0, False
        while not done:
            action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))
            obs, reward, terminated, truncated, _ = env.step(action)
            total, done = total + reward, terminated or truncated
        returns.append(total)
        reached += env.pos == env.GOAL
    return float(np.mean(returns)), reached / len(env.starts)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env, eval_env = GridEnv(args.seed), GridEnv(args.seed + 1)

    q_network, target_network = QNetwork(), QNetwork()
    target_network.load_state_dict(q_network.state_dict())
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, obs_dim=10)
    start_time = time.time()

    obs, _ = env.reset()
    for global_step in range(args.total_timesteps):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = int(q_network(torch.from_numpy(obs)[None]).argmax(dim=1))

        next_obs, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset()[0] if done else next_obs

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                best = q_network(b_next_obs).argmax(dim=1, keepdim=True)
                next_value = target_network(b_next_obs).gather(1, best).squeeze(1)
                td_target = b_rewards + args.gamma * next_value * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for target_param, param in zip(target_network.parameters(), q_network.parameters()):
                target_param.data.copy_(args.tau * param.data + (1.0 - args.tau) * target_param.data)

        if (global_step + 1) % 1000 == 0:
            mean_return, success = evaluate(q_network, eval_env)
            sps = int((global_step + 1) / (time.time() - start_time))
            print(f"step={global_step + 1} eps={epsilon:.2f} return={mean_return:.3f} success={success:.2f} SPS={sps}")
