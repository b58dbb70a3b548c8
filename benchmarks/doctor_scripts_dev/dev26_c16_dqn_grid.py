"""Double DQN that walks to a goal in a small grid with a wall."""

import random
from collections import deque, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple("Transition", "state action reward next_state terminated")


class GridWorld:
    """Move to the goal: 1 for reaching it, -0.02 a step; an episode is cut off after 30 steps."""

    SIZE, MAX_STEPS = 6, 30
    MOVES = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    WALL = {(2, 2), (2, 3), (3, 2)}

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.free = [(r, c) for r in range(self.SIZE) for c in range(self.SIZE) if (r, c) not in self.WALL]

    def observe(self):
        (r, c), (gr, gc) = self.agent, self.goal
        blocked = [float(not self.allowed((r + dr, c + dc))) for dr, dc in self.MOVES]
        scale = self.SIZE - 1
        return [2 * r / scale - 1, 2 * c / scale - 1, (gr - r) / scale, (gc - c) / scale] + blocked

    def allowed(self, cell):
        return 0 <= cell[0] < self.SIZE and 0 <= cell[1] < self.SIZE and cell not in self.WALL

    def reset(self):
        self.agent, self.goal = self.rng.sample(self.free, 2)
        self.steps = 0
        return self.observe()

    def step(self, action):
        dr, dc = self.MOVES[action]
        cell = (self.agent[0] + dr, self.agent[1] + dc)
        if self.allowed(cell):
            self.agent = cell
        self.steps += 1
        terminated = self.agent == self.goal
        truncated = not terminated and self.steps >= self.MAX_STEPS
        return self.observe(), 1.0 if terminated else -0.02, terminated, truncated


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque(maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        batch = Transition(*zip(*random.sample(self.memory, batch_size)))
        return (
            torch.tensor(batch.state),
            torch.tensor(batch.action).unsqueeze(1),
            torch.tensor(batch.reward),
            torch.tensor(batch.next_state),
            torch.tensor(batch.terminated, dtype=torch.float32),
        )

    def __len__(self):
        return len(self.memory)


def make_network():
    return nn.Sequential(nn.Linear(8, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 4))


class Agent:
    def __init__(self, gamma=0.95, lr=1e-3, tau=0.01):
        self.policy_net, self.target_net = make_network(), make_network()
        self.target_net.load_state_dict(self.policy_net.state_dict())
        self.target_net.requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.policy_net.parameters(), lr=lr)
        self.gamma, self.tau = gamma, tau

    @torch.no_grad()
    def act(self, state, epsilon=0.0):
        if random.random() < epsilon:
            return random.randrange(4)
        return int(self.policy_net(torch.tensor(state)).argmax())

    def learn(self, batch):
        states, actions, rewards, next_states, terminated = batch
        q_values = self.policy_net(states).gather(1, actions).squeeze(1)
        with torch.no_grad():
            best_actions = self.policy_net(next_states).argmax(1, keepdim=True)
            next_values = self.target_net(next_states).gather(1, best_actions).squeeze(1)
            targets = rewards + self.gamma * (1 - terminated) * next_values
        loss = F.smooth_l1_loss(q_values, targets)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.policy_net.parameters(), 100)
        self.optimizer.step()
        with torch.no_grad():
            for target, source in zip(self.target_net.parameters(), self.policy_net.parameters()):
                target.lerp_(source, self.tau)
        return loss.item()


def evaluate(agent, episodes=60):
    """The share of episodes in which the greedy agent reaches the goal, and the mean return."""
    env, reached, returns = GridWorld(seed=999), 0, 0.0
    for _ in range(episodes):
        state, done = env.reset(), False
        while not done:
            state, reward, terminated, truncated = env.step(agent.act(state))
            returns += reward
            done = terminated or truncated
        reached += terminated
    return reached / episodes, returns / episodes


def main(total_steps=10000, learning_starts=500, batch_size=64):
    random.seed(0)
    torch.manual_seed(0)
    env, agent, memory = GridWorld(seed=1), Agent(), ReplayMemory(10000)
    losses, episodes = [], 0
    state = env.reset()
    for step in range(1, total_steps + 1):
        epsilon = max(0.05, 1.0 - 0.95 * step / 5000)
        action = agent.act(state, epsilon)
        next_state, reward, terminated, truncated = env.step(action)
        memory.push(state, action, reward, next_state, terminated)
        state = next_state
        if terminated or truncated:
            state = env.reset()
            episodes += 1
        if step >= learning_starts:
            losses.append(agent.learn(memory.sample(batch_size)))
        if step % 1000 == 0:
            reached, mean_return = evaluate(agent)
            print(
                f"step {step}: episodes {episodes}, epsilon {epsilon:.2f}, loss {sum(losses) / len(losses):.4f}, "
                f"goal reached {reached:.2f}, mean return {mean_return:.3f}",
                flush=True,
            )
            losses = []


if __name__ == "__main__":
    main()
