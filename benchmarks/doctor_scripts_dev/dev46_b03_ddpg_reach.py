# DDPG in one file, on a point that has to reach a goal in the plane
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 7000
    learning_rate: float = 1e-3
    buffer_size: int = 7000
    gamma: float = 0.95
    tau: float = 0.02
    batch_size: int = 128
    exploration_noise: float = 0.2
    learning_starts: int = 600
    train_frequency: int = 2
    policy_frequency: int = 2


class ReachEnv:
    """Observation: position and goal in [-1, 1]^2. Action: a step in [-1, 1]^2, times 0.15."""

    max_episode_steps = 20

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        return np.concatenate([self.pos, self.goal]).astype(np.float32)

    def reset(self):
        self.pos, self.goal = self.rng.uniform(-1, 1, 2), self.rng.uniform(-1, 1, 2)
        self.t = 0
        return self._obs()

    def step(self, action):
        self.pos = np.clip(self.pos + 0.15 * np.clip(action, -1, 1), -1, 1)
        self.t += 1
        distance = float(np.linalg.norm(self.pos - self.goal))
        terminated = distance < 0.15
        truncated = not terminated and self.t >= self.max_episode_steps
        reward = 1.0 if terminated else -0.5 * distance
        return self._obs(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim, action_dim, device):
        self.observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_observations = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros((size, action_dim), dtype=np.float32)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full, self.device = size, 0, False, device

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.dones[self.pos] = done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return [torch.as_tensor(array[idx], device=self.device) for array in arrays]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, action_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim + action_dim, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 1)

    def forward(self, x, a):
        x = F.relu(self.fc1(torch.cat([x, a], 1)))
        return self.fc3(F.relu(self.fc2(x)))


class Actor(nn.Module):
    def __init__(self, obs_dim, action_dim):
        super().__init__()
        self.fc1 = nn.Linear(obs_dim, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc_mu = nn.Linear(64, action_dim)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        return torch.tanh(self.fc_mu(F.relu(self.fc2(x))))


@torch.no_grad()
def evaluate(actor, device, episodes=50, seed=1000):
    env = ReachEnv(seed)
    returns, reached = [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = actor(torch.as_tensor(obs, device=device)[None])[0].cpu().numpy()
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
        reached += terminated
    return np.mean(returns), reached / episodes


if __name__ == "__main__":
    args = Args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cpu")

    env = ReachEnv(args.seed)
    actor = Actor(4, 2).to(device)
    qf1 = QNetwork(4, 2).to(device)
    qf1_target = QNetwork(4, 2).to(device)
    target_actor = Actor(4, 2).to(device)
    target_actor.load_state_dict(actor.state_dict())
    qf1_target.load_state_dict(qf1.state_dict())
    q_optimizer = optim.Adam(list(qf1.parameters()), lr=args.learning_rate)
    actor_optimizer = optim.Adam(list(actor.parameters()), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 4, 2, device)

    obs = env.reset()
    for global_step in range(args.total_timesteps):
        if global_step < args.learning_starts:
            action = np.random.uniform(-1, 1, 2)
        else:
            with torch.no_grad():
                action = actor(torch.as_tensor(obs, device=device)[None])[0].cpu().numpy()
            action = np.clip(action + np.random.normal(0, args.exploration_noise, 2), -1, 1)

        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            obs = env.reset()

        if global_step >= args.learning_starts and global_step % args.train_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                qf1_next_target = qf1_target(b_next_obs, target_actor(b_next_obs)).view(-1)
                next_q_value = b_rewards + (1 - b_dones) * args.gamma * qf1_next_target

            qf1_a_values = qf1(b_obs, b_actions).view(-1)
            qf1_loss = F.mse_loss(qf1_a_values, next_q_value)
            q_optimizer.zero_grad()
            qf1_loss.backward()
            q_optimizer.step()

            if global_step % (args.train_frequency * args.policy_frequency) == 0:
                actor_loss = -qf1(b_obs, actor(b_obs)).mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()

            with torch.no_grad():
                for param, target_param in zip(actor.parameters(), target_actor.parameters()):
                    target_param.copy_(args.tau * param + (1 - args.tau) * target_param)
                for param, target_param in zip(qf1.parameters(), qf1_target.parameters()):
                    target_param.copy_(args.tau * param + (1 - args.tau) * target_param)

        if (global_step + 1) % 1000 == 0:
            episodic_return, success = evaluate(actor, device)
            print(f"step {global_step + 1}: return {episodic_return:.3f}, reached {success:.2f}")
