"""DQN plays Catch: a ball falls, a paddle on the ground moves left, stays, or moves right."""

import argparse
import random
from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Catch:
    def __init__(self, rows=7, cols=5, seed=0):
        self.rows, self.cols = rows, cols
        self.rng = np.random.default_rng(seed)
        self.board = np.zeros(rows * cols, dtype=np.float32)

    def observe(self):
        self.board[:] = 0.0
        self.board[self.row * self.cols + self.ball] = 1.0
        self.board[(self.rows - 1) * self.cols + self.paddle] = 1.0
        return self.board.copy()

    def reset(self):
        self.row = 0
        self.ball = int(self.rng.integers(self.cols))
        self.paddle = int(self.rng.integers(self.cols))
        return self.observe()

    def step(self, action):
        self.paddle = min(max(self.paddle + action - 1, 0), self.cols - 1)
        self.row += 1
        done = self.row == self.rows - 1
        reward = 0.0
        if done:
            reward = 1.0 if self.ball == self.paddle else -1.0
        return self.observe(), reward, done


def build_net(inputs, actions):
    return nn.Sequential(
        nn.Linear(inputs, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, actions),
    )


def epsilon_at(step, args):
    share = min(1.0, step / args.explore)
    return 1.0 + share * (args.epsilon_end - 1.0)


@torch.no_grad()
def choose(net, obs, epsilon, actions=3):
    if random.random() < epsilon:
        return random.randrange(actions)
    return int(net(torch.from_numpy(obs).unsqueeze(0)).argmax(dim=1))


def sample_batch(buffer, size):
    obs, actions, rewards, next_obs, dones = zip(*random.sample(buffer, size))
    return (
        torch.from_numpy(np.stack(obs)),
        torch.tensor(actions),
        torch.tensor(rewards, dtype=torch.float32),
        torch.from_numpy(np.stack(next_obs)),
        torch.tensor(dones, dtype=torch.float32),
    )


def update(policy, target, optimizer, batch, gamma):
    obs, actions, rewards, next_obs, dones = batch
    q = policy(obs).gather(1, actions.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        best_next = target(next_obs).max(dim=1).values
        wanted = rewards + gamma * (1.0 - dones) * best_next
    loss = F.smooth_l1_loss(q, wanted)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
    optimizer.step()
    return loss.item()


def play(policy, episodes=100, seed=1000):
    env = Catch(seed=seed)
    caught = 0
    for _ in range(episodes):
        obs, done = env.reset(), False
        while not done:
            obs, reward, done = env.step(choose(policy, obs, epsilon=0.0))
        caught += reward > 0
    return caught / episodes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--explore", type=int, default=5000)
    parser.add_argument("--epsilon-end", type=float, default=0.05)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--sync", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = Catch(seed=args.seed)
    policy, target = build_net(35, 3), build_net(35, 3)
    target.load_state_dict(policy.state_dict())
    optimizer = torch.optim.Adam(policy.parameters(), lr=args.lr)
    buffer = deque(maxlen=5000)

    obs, losses = env.reset(), []
    for step in range(1, args.steps + 1):
        action = choose(policy, obs, epsilon_at(step, args))
        next_obs, reward, done = env.step(action)
        buffer.append((obs, action, reward, next_obs, done))
        obs = env.reset() if done else next_obs
        if step > args.warmup:
            losses.append(update(policy, target, optimizer, sample_batch(buffer, args.batch_size), args.gamma))
            if step % args.sync == 0:
                target.load_state_dict(policy.state_dict())
        if step % 1000 == 0:
            print(f"step {step:5d}  loss {np.mean(losses[-500:]):.4f}  caught {play(policy):.2f}")


if __name__ == "__main__":
    main()
