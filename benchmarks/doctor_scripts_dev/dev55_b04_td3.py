"""TD3 in one file: a point in the plane is to be steered into the origin."""
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 1800
    learning_rate: float = 2e-3
    buffer_size: int = 3000
    gamma: float = 0.95
    tau: float = 0.02
    batch_size: int = 64
    policy_noise: float = 0.2
    exploration_noise: float = 0.2
    learning_starts: int = 250
    policy_frequency: int = 2
    eval_every: int = 300


class PointEnv:
    """Each step costs a tenth of the distance that is left; the origin pays 1 and ends the episode."""

    obs_dim, act_dim, limit = 2, 2, 25

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def _get_obs(self):
        return self.position.copy()

    def reset(self):
        self.position = self.rng.uniform(-1, 1, 2).astype(np.float32)
        self.elapsed = 0
        return self._get_obs()

    def step(self, action):
        self.position += 0.2 * np.clip(action, -1, 1).astype(np.float32)
        np.clip(self.position, -1.5, 1.5, out=self.position)
        self.elapsed += 1
        distance = float(np.linalg.norm(self.position))
        terminated = distance < 0.15
        truncated = not terminated and self.elapsed >= self.limit
        reward = 1.0 if terminated else -0.1 * distance
        return self._get_obs(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim, act_dim):
        self.obs = np.zeros((size, obs_dim), np.float32)
        self.next_obs = np.zeros((size, obs_dim), np.float32)
        self.actions = np.zeros((size, act_dim), np.float32)
        self.rewards = np.zeros(size, np.float32)
        self.dones = np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.obs[self.pos], self.next_obs[self.pos] = obs, next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, batch_size)
        arrays = (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(a[index]) for a in arrays]


class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        sizes = env.obs_dim + env.act_dim
        self.net = nn.Sequential(nn.Linear(sizes, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, x, a):
        return self.net(torch.cat([x, a], 1)).view(-1)


class Actor(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(env.obs_dim, 48), nn.Linear(48, 48)
        self.fc_mu = nn.Linear(48, env.act_dim)

    def forward(self, x):
        return torch.tanh(self.fc_mu(F.relu(self.fc2(F.relu(self.fc1(x))))))


@torch.no_grad()
def evaluate(actor, episodes=30, seed=1000):
    env = PointEnv(seed)
    returns, reached = [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = actor(torch.from_numpy(obs)[None])[0].numpy()
            obs, reward, terminated, truncated = env.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
        reached += terminated
    return float(np.mean(returns)), reached / episodes


def main():
    args = Args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = PointEnv(args.seed)
    actor, qf1, qf2 = Actor(env), QNetwork(env), QNetwork(env)
    target_actor, qf1_target, qf2_target = deepcopy(actor), deepcopy(qf1), deepcopy(qf2)
    q_optimizer = optim.Adam(list(qf1.parameters()) + list(qf2.parameters()), lr=args.learning_rate)
    actor_optimizer = optim.Adam(list(actor.parameters()), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, env.obs_dim, env.act_dim)
    obs = env.reset()
    for global_step in range(1, args.total_timesteps + 1):
        if global_step < args.learning_starts:
            action = np.random.uniform(-1, 1, env.act_dim)
        else:
            with torch.no_grad():
                action = actor(torch.from_numpy(obs)[None])[0].numpy()
            action = (action + args.exploration_noise * np.random.randn(env.act_dim)).clip(-1, 1)
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = env.reset() if terminated or truncated else next_obs
        if global_step < args.learning_starts:
            continue

        b_obs, b_next, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
        with torch.no_grad():
            noise = (torch.randn_like(b_actions) * args.policy_noise).clamp(-0.4, 0.4)
            next_actions = (target_actor(b_next) + noise).clamp(-1, 1)
            next_q = torch.min(qf1_target(b_next, next_actions), qf2_target(b_next, next_actions))
            target = b_rewards + (1 - b_dones) * args.gamma * next_q
        qf_loss = F.mse_loss(qf1(b_obs, b_actions), target) + F.mse_loss(qf2(b_obs, b_actions), target)
        q_optimizer.zero_grad()
        qf_loss.backward()
        q_optimizer.step()

        if global_step % args.policy_frequency == 0:
            actor_loss = -qf1(b_obs, actor(b_obs)).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()
            for net, target_net in ((actor, target_actor), (qf1, qf1_target), (qf2, qf2_target)):
                for param, target_param in zip(net.parameters(), target_net.parameters()):
                    target_param.data.copy_(args.tau * param.data + (1 - args.tau) * target_param.data)
        if global_step % args.eval_every == 0:
            mean_return, reached = evaluate(actor)
            print(f"step {global_step} q loss {qf_loss.item():.4f} return {mean_return:.3f} reached {reached:.2f}")


if __name__ == "__main__":
    main()
