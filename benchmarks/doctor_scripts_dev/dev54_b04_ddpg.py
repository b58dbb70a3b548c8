"""DDPG in one file: a point robot drives to a goal in the plane."""
import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total-timesteps", type=int, default=2500)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--buffer-size", type=int, default=5000)
    parser.add_argument("--gamma", type=float, default=0.95)
    parser.add_argument("--tau", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--exploration-noise", type=float, default=0.2)
    parser.add_argument("--learning-starts", type=int, default=300)
    parser.add_argument("--eval-every", type=int, default=500)
    return parser.parse_args()

class ReachEnv:
    """Observation: place and the way to the goal. Ends at the goal, is cut off after 25 steps."""

    obs_dim, act_dim, max_steps = 4, 2, 25

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def _obs(self):
        return np.concatenate([self.place, self.goal - self.place]).astype(np.float32)

    def reset(self):
        self.place = self.rng.uniform(-1, 1, size=2)
        self.goal = self.rng.uniform(-1, 1, size=2)
        while np.linalg.norm(self.goal - self.place) < 0.4:
            self.goal = self.rng.uniform(-1, 1, size=2)
        self.steps = 0
        return self._obs()

    def step(self, action):
        self.place = np.clip(self.place + 0.2 * np.clip(action, -1, 1), -1.2, 1.2)
        self.steps += 1
        distance = np.linalg.norm(self.goal - self.place)
        terminated = bool(distance < 0.2)
        truncated = not terminated and self.steps >= self.max_steps
        reward = 1.0 if terminated else -0.1 * distance
        return self._obs(), float(reward), terminated, truncated

class ReplayBuffer:
    def __init__(self, size, obs_dim, act_dim):
        self.observations = np.zeros((size, obs_dim), np.float32)
        self.next_observations = np.zeros((size, obs_dim), np.float32)
        self.actions = np.zeros((size, act_dim), np.float32)
        self.rewards = np.zeros(size, np.float32)
        self.dones = np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, done):
        self.observations[self.pos], self.next_observations[self.pos] = obs, next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos], self.dones[self.pos] = reward, done
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        index = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        arrays = (self.observations, self.next_observations, self.actions, self.rewards, self.dones)
        return [torch.from_numpy(array[index]) for array in arrays]

class QNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(env.obs_dim + env.act_dim, 64), nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 1)

    def forward(self, x, a):
        x = F.relu(self.fc1(torch.cat([x, a], 1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)

class Actor(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(env.obs_dim, 64), nn.Linear(64, 64)
        self.fc_mu = nn.Linear(64, env.act_dim)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return torch.tanh(self.fc_mu(x))

@torch.no_grad()
def evaluate(actor, seed, episodes=10):
    env = ReachEnv(seed)
    returns, reached = [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = actor(torch.from_numpy(obs)[None])[0].numpy()
            obs, reward, terminated, truncated = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(total)
        reached += terminated
    return np.mean(returns), reached / episodes

def main():
    args = parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = ReachEnv(args.seed)
    actor, qf1 = Actor(env), QNetwork(env)
    target_actor, qf1_target = copy.deepcopy(actor), copy.deepcopy(qf1)
    q_optimizer = optim.Adam(qf1.parameters(), lr=args.learning_rate)
    actor_optimizer = optim.Adam(actor.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, env.obs_dim, env.act_dim)
    obs = env.reset()
    for global_step in range(1, args.total_timesteps + 1):
        if global_step <= args.learning_starts:
            action = np.random.uniform(-1, 1, size=env.act_dim).astype(np.float32)
        else:
            with torch.no_grad():
                action = actor(torch.from_numpy(obs)[None])[0].numpy()
            action = action + np.random.normal(0, args.exploration_noise, size=env.act_dim).astype(np.float32)
            action = action.clip(-1, 1)
        next_obs, reward, terminated, truncated = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)
        obs = next_obs
        if terminated or truncated:
            obs = env.reset()

        if global_step > args.learning_starts:
            b_obs, b_next_obs, b_actions, b_rewards, b_dones = rb.sample(args.batch_size)
            with torch.no_grad():
                next_q = qf1_target(b_next_obs, target_actor(b_next_obs)).view(-1)
                next_q_value = b_rewards + (1 - b_dones) * args.gamma * next_q
            qf1_loss = F.mse_loss(qf1(b_obs, b_actions).view(-1), next_q_value)
            q_optimizer.zero_grad()
            qf1_loss.backward()
            q_optimizer.step()

            actor_loss = -qf1(b_obs, actor(b_obs)).mean()
            actor_optimizer.zero_grad()
            actor_loss.backward()
            actor_optimizer.step()

            for net, target_net in ((actor, target_actor), (qf1, qf1_target)):
                for param, target_param in zip(net.parameters(), target_net.parameters()):
                    target_param.data.copy_(args.tau * param.data + (1 - args.tau) * target_param.data)

        if global_step % args.eval_every == 0:
            mean_return, success = evaluate(actor, seed=10_000)
            print(f"step {global_step}: return {mean_return:.3f}, reached {success:.0%}")

if __name__ == "__main__":
    main()
