"""Double DQN for Catch, as in bsuite: a ball falls, a paddle below is to meet it. Many boards are played at a time."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Catch:
    """Actions: 0 left, 1 stay, 2 right. Reward 1 or -1 when the ball arrives, which ends the episode; 0 before."""

    actions = 3

    def __init__(self, boards, rows=8, columns=5, seed=0, spread=True):
        self.boards, self.rows, self.columns = boards, rows, columns
        self.rng = np.random.default_rng(seed)
        # boards begin at various heights, so that their episodes don't all end at once
        self.ball_row = self.rng.integers(0, rows - 2, boards) if spread else np.zeros(boards, dtype=np.int64)
        self.ball_column = self.rng.integers(0, columns, boards)
        self.paddle = np.full(boards, columns // 2)

    def observe(self):
        board = np.zeros((self.boards, self.rows, self.columns), dtype=np.float32)
        index = np.arange(self.boards)
        board[index, self.ball_row, self.ball_column] = 1
        board[index, self.rows - 1, self.paddle] = 1
        return torch.from_numpy(board).flatten(1)

    def step(self, actions):
        """What followed, rewards and ends; boards that ended have been set up anew in observe()."""
        self.paddle = np.clip(self.paddle + actions.numpy() - 1, 0, self.columns - 1)
        self.ball_row = self.ball_row + 1
        done = self.ball_row == self.rows - 1
        reward = np.where(done, np.where(self.paddle == self.ball_column, 1.0, -1.0), 0.0)
        following = self.observe()
        self.ball_row = np.where(done, 0, self.ball_row)
        self.ball_column = np.where(done, self.rng.integers(0, self.columns, self.boards), self.ball_column)
        self.paddle = np.where(done, self.columns // 2, self.paddle)
        return following, torch.from_numpy(reward).float(), torch.from_numpy(done)


class ReplayBuffer:
    def __init__(self, capacity, observation_size):
        self.capacity, self.size, self.position = capacity, 0, 0
        self.observations = torch.zeros(capacity, observation_size)
        self.following = torch.zeros(capacity, observation_size)
        self.actions = torch.zeros(capacity, dtype=torch.long)
        self.rewards = torch.zeros(capacity)
        self.dones = torch.zeros(capacity, dtype=torch.bool)

    def add(self, observations, actions, rewards, following, dones):
        places = (self.position + torch.arange(len(actions))) % self.capacity
        self.observations[places], self.following[places] = observations, following
        self.actions[places], self.rewards[places], self.dones[places] = actions, rewards, dones
        self.position = (self.position + len(actions)) % self.capacity
        self.size = min(self.capacity, self.size + len(actions))

    def sample(self, count):
        chosen = torch.randint(0, self.size, (count,))
        return (
            self.observations[chosen],
            self.actions[chosen],
            self.rewards[chosen],
            self.following[chosen],
            self.dones[chosen],
        )


def q_network(inputs, actions, hidden=96):
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, actions)
    )


class Agent:
    def __init__(self, inputs, actions, args):
        self.actions, self.gamma = actions, args.gamma
        self.online = q_network(inputs, actions)
        self.target = q_network(inputs, actions).requires_grad_(False)
        self.update_target()
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=args.lr)

    def update_target(self):
        self.target.load_state_dict(self.online.state_dict())

    @torch.no_grad()
    def act(self, observations, epsilon):
        greedy = self.online(observations).argmax(1)
        random = torch.randint(0, self.actions, greedy.shape)
        return torch.where(torch.rand(greedy.shape) < epsilon, random, greedy)

    def learn(self, observations, actions, rewards, following, dones):
        with torch.no_grad():
            chosen = self.online(following).argmax(1, keepdim=True)
            value = self.target(following).gather(1, chosen).squeeze(1)
            goal = rewards + self.gamma * value * (~dones).float()
        estimate = self.online(observations).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = F.smooth_l1_loss(estimate, goal)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        return loss.item()


def evaluate(agent, boards=256):
    """The mean reward of greedy episodes from the start, on boards of their own."""
    game = Catch(boards, seed=12345, spread=False)
    for _ in range(game.rows - 1):
        _, rewards, dones = game.step(agent.act(game.observe(), epsilon=0.0))
    assert dones.all()
    return rewards.mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--boards", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--gamma", type=float, default=0.98)
    parser.add_argument("--explore-steps", type=int, default=3000)
    parser.add_argument("--target-every", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    game = Catch(args.boards, seed=args.seed)
    observations = game.observe()
    agent = Agent(observations.shape[1], game.actions, args)
    memory = ReplayBuffer(20000, observations.shape[1])
    losses, rewards_seen, ended = [], 0.0, 0
    for step in range(1, args.steps + 1):
        epsilon = max(0.05, 1 - 0.95 * step / args.explore_steps)
        actions = agent.act(observations, epsilon)
        following, rewards, dones = game.step(actions)
        memory.add(observations, actions, rewards, following, dones)
        observations = game.observe()
        rewards_seen += rewards.sum().item()
        ended += int(dones.sum())
        if memory.size >= 1000:
            losses.append(agent.learn(*memory.sample(args.batch_size)))
        if step % args.target_every == 0:
            agent.update_target()
        if step % 500 == 0:
            print(
                f"step {step} epsilon {epsilon:.2f} loss {np.mean(losses):.5f} played {rewards_seen / ended:.3f} "
                f"greedy {evaluate(agent):.3f}",
                flush=True,
            )
            losses, rewards_seen, ended = [], 0.0, 0


if __name__ == "__main__":
    main()
