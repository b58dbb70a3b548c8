import math
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
    seed: int = 1
    total_timesteps: int = 12000
    learning_rate: float = 1e-3
    buffer_size: int = 10000
    gamma: float = 0.98
    target_network_frequency: int = 200
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.4
    learning_starts: int = 500
    train_frequency: int = 2
    eval_frequency: int = 2000

class PoleEnv:
    """Barto, Sutton & Anderson's cart and pole; gives 1 for each step and is cut off after `max_steps`."""

    def __init__(self, seed, max_steps=100):
        self.rng, self.max_steps = random.Random(seed), max_steps

    def reset(self):
        self.state = [self.rng.uniform(-0.05, 0.05) for _ in range(4)]
        self.steps = 0
        return np.array(self.state, dtype=np.float32)

    def step(self, action):
        x, x_dot, theta, theta_dot = self.state
        force = 10.0 if action == 1 else -10.0
        cos, sin = math.cos(theta), math.sin(theta)
        temp = (force + 0.05 * theta_dot**2 * sin) / 1.1
        theta_acc = (9.8 * sin - cos * temp) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
        x_acc = temp - 0.05 * theta_acc * cos / 1.1
        self.state = [x + 0.02 * x_dot, x_dot + 0.02 * x_acc, theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc]
        self.steps += 1
        terminated = abs(self.state[0]) > 2.4 or abs(self.state[2]) > 12 * math.pi / 180
        truncated = self.steps >= self.max_steps
        return np.array(self.state, dtype=np.float32), 1.0, terminated, truncated

class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, 1), dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.obs[self.pos], self.next_obs[self.pos] = obs, next_obs
        self.actions[self.pos, 0], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        return [torch.from_numpy(a[idx]) for a in (self.obs, self.next_obs, self.actions, self.rewards, self.dones)]

class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, n_actions),
        )

    def forward(self, x):
        return self.network(x)

def linear_schedule(start_e: float, end_e: float, duration: float, t: int):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)

@torch.no_grad()
def greedy(network, obs):
    return int(network(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))

def evaluate(network, episodes=10):
    env, returns = PoleEnv(seed=1000), []
    for _ in range(episodes):
        obs, over, total = env.reset(), False, 0.0
        while not over:
            obs, reward, terminated, truncated = env.step(greedy(network, obs))
            over, total = terminated or truncated, total + reward
        returns.append(total)
    return float(np.mean(returns))

if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    env = PoleEnv(args.seed)
    q_network = QNetwork(4, 2)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    target_network = QNetwork(4, 2)
    target_network.load_state_dict(q_network.state_dict())
    rb = ReplayBuffer(args.buffer_size, 4)
    start_time = time.time()

    obs, episodic_return, history, best = env.reset(), 0.0, [], -1.0
    for global_step in range(1, args.total_timesteps + 1):
        # ALGO LOGIC: put action logic here
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, global_step)
        if random.random() < epsilon:
            action = random.randrange(2)
        else:
            action = greedy(q_network, obs)

        next_obs, reward, terminated, truncated = env.step(action)
        done = terminated or truncated
        episodic_return += reward
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if done:
            history.append(episodic_return)
            obs, episodic_return = env.reset(), 0.0

        # ALGO LOGIC: training
        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max, _ = target_network(b_next_obs).max(dim=1)
                td_target = b_rewards + args.gamma * target_max * (1 - b_dones)
            old_val = q_network(b_obs).gather(1, b_actions).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())

        if global_step % args.eval_frequency == 0:
            score = evaluate(q_network)
            best = max(best, score)
            print(f"global_step={global_step}, epsilon={epsilon:.2f}, train return={np.mean(history[-20:]):.1f}, "
                  f"greedy return={score:.1f}, SPS={int(global_step / (time.time() - start_time))}")
    print(f"best greedy return {best:.1f} of {env.max_steps}")
