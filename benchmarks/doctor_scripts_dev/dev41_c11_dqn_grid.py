"""Deep Q-learning on a grid where start and goal change with each episode. One file, in the manner of CleanRL."""

import copy
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 9000
    learning_rate: float = 1e-3
    buffer_size: int = 9000
    gamma: float = 0.95
    target_network_frequency: int = 250
    batch_size: int = 64
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    learning_starts: int = 500
    train_frequency: int = 2


class GridEnv:
    """Walk to the goal on 5 x 5 cells: 1 at the goal, a small price for each step, cut off after 40 steps."""

    moves = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])

    def __init__(self, size=5, max_steps=40):
        self.size, self.max_steps = size, max_steps

    def reset(self, seed=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        agent, goal = self.rng.choice(self.size**2, size=2, replace=False)
        self.agent, self.goal = np.array(divmod(agent, self.size)), np.array(divmod(goal, self.size))
        self.steps = 0
        return self._observation(), {}

    def _observation(self):
        return (np.concatenate([self.agent, self.goal]) / (self.size - 1) * 2 - 1).astype(np.float32)

    def step(self, action):
        self.agent = np.clip(self.agent + self.moves[action], 0, self.size - 1)
        self.steps += 1
        terminated = bool((self.agent == self.goal).all())
        truncated = self.steps >= self.max_steps and not terminated
        return self._observation(), 1.0 if terminated else -0.01, terminated, truncated, {}


class ReplayBuffer:
    def __init__(self, size, obs_dim):
        self.observations, self.next_observations = np.zeros((2, size, obs_dim), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int64)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.terminations = np.zeros(size, dtype=np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, termination):
        self.observations[self.pos] = obs
        self.next_observations[self.pos] = next_obs
        self.actions[self.pos] = action
        self.rewards[self.pos] = reward
        self.terminations[self.pos] = termination
        self.pos = (self.pos + 1) % self.size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size):
        rows = np.random.randint(0, self.size if self.full else self.pos, size=batch_size)
        columns = (self.observations, self.next_observations, self.actions, self.rewards, self.terminations)
        return [torch.from_numpy(column[rows]) for column in columns]


class QNetwork(nn.Module):
    def __init__(self, obs_dim, n_actions):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(obs_dim, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, n_actions)
        )

    def forward(self, x):
        return self.network(x)


def linear_schedule(start_e, end_e, duration, t):
    slope = (end_e - start_e) / duration
    return max(slope * t + start_e, end_e)


def greedy_action(network, obs):
    with torch.no_grad():
        return network(torch.from_numpy(obs)[None]).argmax(dim=1).item()


def evaluate(network, episodes=100):
    env, successes, returns = GridEnv(), 0, []
    network.eval()
    for episode in range(episodes):
        obs, _ = env.reset(seed=10_000 + episode)
        episodic_return, done = 0.0, False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(greedy_action(network, obs))
            episodic_return += reward
            done = terminated or truncated
        successes += terminated
        returns.append(episodic_return)
    network.train()
    return successes / episodes, float(np.mean(returns))


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    env = GridEnv()
    q_network = QNetwork(4, len(env.moves))
    target_network = copy.deepcopy(q_network)
    optimizer = optim.Adam(q_network.parameters(), lr=args.learning_rate)
    rb = ReplayBuffer(args.buffer_size, 4)
    print("untrained: success %.2f, return %.3f" % evaluate(q_network))

    episodic_return, recent = 0.0, []
    obs, _ = env.reset(seed=args.seed)
    for global_step in range(args.total_timesteps):
        duration = args.exploration_fraction * args.total_timesteps
        epsilon = linear_schedule(args.start_e, args.end_e, duration, global_step)
        action = random.randrange(len(env.moves)) if random.random() < epsilon else greedy_action(q_network, obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        rb.add(obs, next_obs, action, reward, terminated)  # an episode that was cut off would have gone on
        episodic_return += reward
        obs = next_obs
        if terminated or truncated:
            recent.append(episodic_return)
            obs, _ = env.reset()
            episodic_return = 0.0

        if global_step > args.learning_starts and global_step % args.train_frequency == 0:
            s, s_next, a, r, ended = rb.sample(args.batch_size)
            with torch.no_grad():
                target_max = target_network(s_next).max(dim=1).values
                td_target = r + args.gamma * target_max * (1 - ended)
            old_val = q_network(s).gather(1, a[:, None]).squeeze(1)
            loss = F.mse_loss(old_val, td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if global_step % args.target_network_frequency == 0:
                target_network.load_state_dict(q_network.state_dict())
        if (global_step + 1) % 1500 == 0:
            print(f"global_step {global_step + 1}: return {np.mean(recent[-50:]):.3f}, epsilon {epsilon:.2f}")

    print("trained: success %.2f, return %.3f" % evaluate(q_network))
