# Soft actor-critic for discrete actions in one file, in the manner of CleanRL
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions.categorical import Categorical


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 5000
    buffer_size: int = 5000
    gamma: float = 0.95
    tau: float = 0.02
    batch_size: int = 64
    learning_starts: int = 500
    policy_lr: float = 1e-3
    q_lr: float = 1e-3
    update_frequency: int = 2
    alpha: float = 0.1


class HilltopEnv:
    """A ball on a hill: push it left, right or not at all; one point for each step that it stays on top."""

    num_actions = 3

    def __init__(self, seed, max_steps=40):
        self.rng = np.random.default_rng(seed)
        self.max_steps = max_steps

    def reset(self):
        self.state = self.rng.uniform(-0.3, 0.3, size=2).astype(np.float32)
        self.steps = 0
        return self.state.copy()

    def step(self, action):
        push = (-2.0, 0.0, 2.0)[action]
        self.state[1] += 0.1 * (2.0 * self.state[0] + push)
        self.state[0] += 0.1 * self.state[1]
        self.steps += 1
        terminated = bool(abs(self.state[0]) > 1.0)
        truncated = self.steps >= self.max_steps
        reward = 0.0 if terminated else 1.0
        return self.state.copy(), reward, terminated, truncated


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.next_obs = np.zeros((size, obs_dim), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.dones = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.obs[self.pos] = obs
        self.next_obs[self.pos] = next_obs
        self.actions[self.pos], self.rewards[self.pos], self.dones[self.pos] = action, reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        idx = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = self.obs, self.next_obs, self.actions, self.rewards, self.dones
        return [torch.from_numpy(array[idx]) for array in arrays]


def mlp(obs_dim, out_dim):
    return nn.Sequential(nn.Linear(obs_dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, out_dim))


def evaluate(actor, episodes=20):
    env = HilltopEnv(seed=1000)
    returns = []
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            with torch.no_grad():
                action = actor(torch.from_numpy(obs)).argmax().item()
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
    return np.mean(returns)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    env = HilltopEnv(args.seed)
    actor = mlp(2, env.num_actions)
    qf1, qf2 = mlp(2, env.num_actions), mlp(2, env.num_actions)
    qf1_target, qf2_target = mlp(2, env.num_actions), mlp(2, env.num_actions)
    qf1_target.load_state_dict(qf1.state_dict())
    qf2_target.load_state_dict(qf2.state_dict())
    q_optimizer = optim.Adam(list(qf1.parameters()) + list(qf2.parameters()), lr=args.q_lr)
    actor_optimizer = optim.Adam(actor.parameters(), lr=args.policy_lr)
    rb = ReplayBuffer(args.buffer_size, 2)
    start_time = time.time()

    obs, episode_return, recent = env.reset(), 0.0, []
    for global_step in range(args.total_timesteps):
        if global_step < args.learning_starts:
            action = random.randrange(env.num_actions)
        else:
            with torch.no_grad():
                action = Categorical(logits=actor(torch.from_numpy(obs))).sample().item()
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        episode_return += reward
        if terminated or truncated:
            recent.append(episode_return)
            obs, episode_return = env.reset(), 0.0

        if global_step >= args.learning_starts and global_step % args.update_frequency == 0:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                next_log_pi = F.log_softmax(actor(b_next_obs), dim=1)
                next_q = torch.min(qf1_target(b_next_obs), qf2_target(b_next_obs))
                next_value = (next_log_pi.exp() * (next_q - args.alpha * next_log_pi)).sum(dim=1)
                td_target = b_rewards + (1 - b_dones) * args.gamma * next_value
            q1 = qf1(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
            q2 = qf2(b_obs).gather(1, b_actions.unsqueeze(1)).squeeze(1)
            qf_loss = F.mse_loss(q1, td_target) + F.mse_loss(q2, td_target)
            q_optimizer.zero_grad()
            qf_loss.backward()
            q_optimizer.step()

            log_pi = F.log_softmax(actor(b_obs), dim=1)
            with torch.no_grad():
                min_q = torch.min(qf1(b_obs), qf2(b_obs))
            actor_loss = (log_pi.exp() * (args.alpha * log_pi - min_q)).sum(dim=1).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()

            for net, target in ((qf1, qf1_target), (qf2, qf2_target)):
                for param, target_param in zip(net.parameters(), target.parameters()):
                    target_param.data.copy_(args.tau * param.data + (1 - args.tau) * target_param.data)

        if (global_step + 1) % 1000 == 0:
            sps = int((global_step + 1) / (time.time() - start_time))
            print(f"step={global_step + 1} episodic_return={np.mean(recent[-20:]):.1f} SPS={sps}")
    print(f"greedy policy: mean return {evaluate(actor):.1f} of {env.max_steps}, mean value {next_value.mean().item():.1f}")
