"""Deep Q-learning from pixels: catch a falling ball with a paddle."""

import argparse
import math
import os
import random
import tempfile
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward", "done"))


class Catch:
    """A ball falls from the first row to the last; a paddle of one cell moves left, stays or moves right.

    The episode ends when the ball arrives: reward 1 if it is caught, -1 if not.
    """

    rows, columns, actions = 8, 7, 3

    def __init__(self, seed=0):
        self.rng = random.Random(seed)
        self.board = np.zeros((1, self.rows, self.columns), np.float32)

    def _draw(self):
        self.board.fill(0)
        self.board[0, self.ball_row, self.ball_column] = 1
        self.board[0, self.rows - 1, self.paddle] = 1
        return self.board.copy()

    def reset(self):
        self.ball_row, self.ball_column = 0, self.rng.randrange(self.columns)
        self.paddle = self.rng.randrange(self.columns)
        return self._draw()

    def step(self, action):
        self.paddle = min(max(self.paddle + action - 1, 0), self.columns - 1)
        self.ball_row += 1
        if self.rng.random() < 0.2:
            self.ball_column = min(max(self.ball_column + self.rng.choice((-1, 1)), 0), self.columns - 1)
        terminated = self.ball_row == self.rows - 1
        reward = 0.0
        if terminated:
            reward = 1.0 if abs(self.paddle - self.ball_column) <= 1 else -1.0
        return self._draw(), reward, terminated


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        batch = Transition(*zip(*random.sample(self.memory, batch_size)))
        states = torch.from_numpy(np.stack(batch.state))
        next_states = torch.from_numpy(np.stack(batch.next_state))
        actions = torch.tensor(batch.action).unsqueeze(1)
        return states, actions, next_states, torch.tensor(batch.reward), torch.tensor(batch.done, dtype=torch.float32)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, rows, columns, n_actions):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(12 * rows * columns, 64), nn.ReLU(), nn.Linear(64, n_actions))

    def forward(self, x):
        return self.head(self.conv(x))


class Agent:
    def __init__(self, args):
        self.args = args
        self.policy_net = DQN(Catch.rows, Catch.columns, Catch.actions)
        self.target_net = DQN(Catch.rows, Catch.columns, Catch.actions)
        self.target_net.load_state_dict(self.policy_net.state_dict())
        self.optimizer = optim.AdamW(self.policy_net.parameters(), lr=args.lr, amsgrad=True)
        self.memory = ReplayMemory(args.memory)
        self.steps_done = 0

    def epsilon(self):
        a = self.args
        return a.eps_end + (a.eps_start - a.eps_end) * math.exp(-self.steps_done / a.eps_decay)

    def select_action(self, state):
        eps_threshold = self.epsilon()
        self.steps_done += 1
        if random.random() < eps_threshold:
            return random.randrange(Catch.actions)
        return self.greedy(state)

    @torch.no_grad()
    def greedy(self, state):
        return int(self.policy_net(torch.from_numpy(state).unsqueeze(0)).argmax(1))

    def optimize_model(self):
        states, actions, next_states, rewards, dones = self.memory.sample(self.args.batch_size)
        state_action_values = self.policy_net(states).gather(1, actions).squeeze(1)
        with torch.no_grad():
            next_state_values = self.target_net(next_states).max(1).values
        expected = rewards + self.args.gamma * next_state_values * (1 - dones)
        loss = F.smooth_l1_loss(state_action_values, expected)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(self.policy_net.parameters(), 100)
        self.optimizer.step()
        return loss.item()

    def update_target(self):
        """Soft update: target <- tau * policy + (1 - tau) * target."""
        target, policy = self.target_net.state_dict(), self.policy_net.state_dict()
        for key in policy:
            target[key] = self.args.tau * policy[key] + (1 - self.args.tau) * target[key]
        self.target_net.load_state_dict(target)


def evaluate(agent, episodes, seed=999):
    env = Catch(seed)
    caught = 0
    for _ in range(episodes):
        state, done = env.reset(), False
        while not done:
            state, reward, done = env.step(agent.greedy(state))
        caught += reward > 0
    return caught / episodes


def main():
    parser = argparse.ArgumentParser(description="DQN on Catch")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--gamma", type=float, default=0.97)
    parser.add_argument("--eps-start", type=float, default=0.9)
    parser.add_argument("--eps-end", type=float, default=0.05)
    parser.add_argument("--eps-decay", type=float, default=1000)
    parser.add_argument("--tau", type=float, default=0.01)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--memory", type=int, default=4000)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    env, agent = Catch(args.seed), Agent(args)
    recent, losses = deque(maxlen=100), deque(maxlen=500)
    for episode in range(1, args.episodes + 1):
        state, done = env.reset(), False
        while not done:
            action = agent.select_action(state)
            next_state, reward, done = env.step(action)
            agent.memory.push(state, action, next_state, reward, done)
            state = next_state
            if len(agent.memory) >= args.warmup:
                losses.append(agent.optimize_model())
                agent.update_target()
        recent.append(reward)
        if episode % 100 == 0:
            print(f"episode {episode}: mean reward {sum(recent) / len(recent):+.2f}, loss {sum(losses) / len(losses):.4f}, "
                  f"epsilon {agent.epsilon():.2f}, greedy catches {evaluate(agent, 100):.2f}")
    with tempfile.TemporaryDirectory() as folder:
        torch.save(agent.policy_net.state_dict(), os.path.join(folder, "policy.pt"))
    print(f"final: catches {evaluate(agent, 400, seed=4321):.3f} of the balls")


if __name__ == "__main__":
    main()
