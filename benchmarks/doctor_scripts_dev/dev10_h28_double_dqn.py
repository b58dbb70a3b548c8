"""Double DQN with soft target updates on a walk to a goal past pits; ends and time limits are kept apart."""
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Args:
    seed: int = 1
    total_timesteps: int = 9000
    learning_starts: int = 400
    learning_rate: float = 1e-3
    buffer_size: int = 8000
    batch_size: int = 64
    gamma: float = 0.95
    tau: float = 0.02
    train_frequency: int = 2
    start_e: float = 1.0
    end_e: float = 0.05
    exploration_fraction: float = 0.5
    eval_every: int = 1500


class PitWalk:
    """A 6 x 6 floor. Goal +1, pit -1 (both end the episode), each step -0.01, thirty steps at most."""

    goal, pits, size, limit = (5, 5), {(1, 1), (3, 2), (2, 4), (4, 4)}, 6, 30
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def observe(self):
        observation = np.zeros(2 * self.size, dtype=np.float32)
        observation[self.place[0]] = observation[self.size + self.place[1]] = 1
        return observation

    def reset(self):
        free = [(r, c) for r in range(self.size) for c in range(self.size) if (r, c) != self.goal and (r, c) not in self.pits]
        self.place, self.steps = self.rng.choice(free), 0
        return self.observe()

    def step(self, action):
        dr, dc = self.moves[action]
        self.place = (min(max(self.place[0] + dr, 0), self.size - 1), min(max(self.place[1] + dc, 0), self.size - 1))
        self.steps += 1
        terminated = self.place == self.goal or self.place in self.pits
        reward = 1.0 if self.place == self.goal else -1.0 if self.place in self.pits else -0.01
        return self.observe(), reward, terminated, not terminated and self.steps >= self.limit


class QNetwork(nn.Module):
    def __init__(self, observations, actions):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(observations, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, actions))

    def forward(self, x):
        return self.network(x)


class ReplayBuffer:
    def __init__(self, size, observations):
        self.obs, self.next_obs = torch.zeros(size, observations), torch.zeros(size, observations)
        self.actions, self.rewards, self.dones = torch.zeros(size, dtype=torch.long), torch.zeros(size), torch.zeros(size)
        self.size, self.position, self.full = size, 0, False

    def add(self, obs, next_obs, action, reward, terminated):
        i = self.position
        self.obs[i], self.next_obs[i] = torch.from_numpy(obs), torch.from_numpy(next_obs)
        self.actions[i], self.rewards[i], self.dones[i] = action, reward, float(terminated)
        self.position = (i + 1) % self.size
        self.full = self.full or self.position == 0

    def sample(self, count):
        i = torch.randint(self.size if self.full else self.position, (count,))
        return self.obs[i], self.next_obs[i], self.actions[i], self.rewards[i], self.dones[i]


def linear_schedule(start, end, duration, t):
    return max(end, start + (end - start) * t / duration)


@torch.no_grad()
def evaluate(q_network, episodes=60, seed=1000):
    env, returns, reached = PitWalk(seed), [], 0
    for _ in range(episodes):
        obs, total, over = env.reset(), 0.0, False
        while not over:
            action = q_network(torch.from_numpy(obs)[None]).argmax(1).item()
            obs, reward, terminated, truncated = env.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
        reached += env.place == env.goal
    return float(np.mean(returns)), reached / episodes


def main():
    args = Args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = PitWalk(args.seed)
    q_network, target_network = QNetwork(12, 4), QNetwork(12, 4)
    target_network.load_state_dict(q_network.state_dict())
    target_network.requires_grad_(False)
    optimizer = torch.optim.Adam(q_network.parameters(), lr=args.learning_rate)
    buffer = ReplayBuffer(args.buffer_size, 12)

    obs = env.reset()
    for step in range(1, args.total_timesteps + 1):
        epsilon = linear_schedule(args.start_e, args.end_e, args.exploration_fraction * args.total_timesteps, step)
        if random.random() < epsilon:
            action = random.randrange(4)
        else:
            with torch.no_grad():
                action = q_network(torch.from_numpy(obs)[None]).argmax(1).item()
        next_obs, reward, terminated, truncated = env.step(action)
        buffer.add(obs, next_obs, action, reward, terminated)  # a time limit is no end of the values
        obs = env.reset() if terminated or truncated else next_obs

        if step > args.learning_starts and step % args.train_frequency == 0:
            o, n, a, r, d = buffer.sample(args.batch_size)
            with torch.no_grad():
                best_action = q_network(n).argmax(1, keepdim=True)
                next_value = target_network(n).gather(1, best_action).squeeze(1)
                td_target = r + args.gamma * next_value * (1 - d)
            value = q_network(o).gather(1, a[:, None]).squeeze(1)
            loss = F.smooth_l1_loss(value, td_target)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(q_network.parameters(), 10.0)
            optimizer.step()
            with torch.no_grad():
                for t, q in zip(target_network.parameters(), q_network.parameters()):
                    t.lerp_(q, args.tau)
        if step % args.eval_every == 0:
            mean_return, reached = evaluate(q_network)
            print(f"step {step} epsilon {epsilon:.2f} return {mean_return:.3f} goal reached {reached:.2f}")


if __name__ == "__main__":
    main()
