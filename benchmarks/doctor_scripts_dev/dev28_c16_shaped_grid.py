"""A walker in rooms: actor-critic with potential-based shaping; the time left is part of what it sees."""
import torch
import torch.nn.functional as F
from torch import nn

SIDE, LIMIT, GAMMA, LAMBDA = 5, 14, 0.95, 0.9
MOVES = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])
WALL = torch.zeros(SIDE, SIDE, dtype=torch.bool)
WALL[:, 2] = True
WALL[2, 2] = False  # a door
FREE = torch.nonzero(~WALL)


class Rooms:
    """Many walks at once. The end of the time is an end of the task, which the walker can see coming."""

    def __init__(self, place, goal):
        self.place, self.goal, self.left = place.clone(), goal.clone(), LIMIT
        self.alive = torch.ones(len(place), dtype=torch.bool)

    def observe(self):
        cell = lambda at: F.one_hot(at[:, 0] * SIDE + at[:, 1], SIDE * SIDE).float()
        left = torch.full((len(self.place), 1), self.left / LIMIT)
        return torch.cat([cell(self.place), cell(self.goal), left], 1)

    def potential(self):
        return -(self.place - self.goal).abs().sum(1).float() / 8

    def step(self, action):
        before, was_alive = self.potential(), self.alive.clone()
        target = (self.place + MOVES[action]).clamp(0, SIDE - 1)
        blocked = WALL[target[:, 0], target[:, 1]] | ~was_alive
        self.place = torch.where(blocked[:, None], self.place, target)
        self.left -= 1
        arrived = (self.place == self.goal).all(1)
        over = arrived | (self.left == 0)
        after = torch.where(over, torch.zeros(()), self.potential())  # potentials of final states are zero
        reward = arrived.float() - 0.02 + GAMMA * after - before
        self.alive = was_alive & ~over
        return reward * was_alive, over, was_alive


class Walker(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        inputs = 2 * SIDE * SIDE + 1
        self.policy = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4))
        self.value = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))


def draw_tasks(count):
    place = torch.randint(len(FREE), (count,))
    goal = (place + torch.randint(1, len(FREE), (count,))) % len(FREE)
    return FREE[place], FREE[goal]


@torch.no_grad()
def collect(walker, count):
    rooms = Rooms(*draw_tasks(count))
    seen, actions, rewards, overs, masks = [], [], [], [], []
    for _ in range(LIMIT):
        observation = rooms.observe()
        action = torch.distributions.Categorical(logits=walker.policy(observation)).sample()
        reward, over, alive = rooms.step(action)
        for kept, item in zip((seen, actions, rewards, overs, masks), (observation, action, reward, over, alive)):
            kept.append(item)
    return [torch.stack(items) for items in (seen, actions, rewards, overs, masks)]


def advantages(rewards, values, overs):
    result, carry, following = torch.zeros_like(rewards), torch.zeros(rewards.shape[1]), torch.zeros(rewards.shape[1])
    for t in reversed(range(len(rewards))):
        goes_on = (~overs[t]).float()
        delta = rewards[t] + GAMMA * following * goes_on - values[t]
        carry = delta + GAMMA * LAMBDA * goes_on * carry
        result[t], following = carry, values[t]
    return result


@torch.no_grad()
def examine(walker):
    """The likeliest action for every pair of start and goal: how many arrive?"""
    pairs = [(a, b) for a in range(len(FREE)) for b in range(len(FREE)) if a != b]
    first, second = torch.tensor(pairs).unbind(1)
    rooms = Rooms(FREE[first], FREE[second])
    for _ in range(LIMIT):
        rooms.step(walker.policy(rooms.observe()).argmax(1))
    return (rooms.place == rooms.goal).all(1).float().mean().item()


torch.manual_seed(17)
torch.set_num_threads(1)
walker = Walker()
optimizer = torch.optim.Adam(walker.parameters(), lr=3e-3)
updates = 800
for update in range(updates):
    seen, actions, rewards, overs, masks = collect(walker, 96)
    weight = masks.float()
    values = walker.value(seen).squeeze(-1)
    with torch.no_grad():
        gain = advantages(rewards, values, overs)
        goal_value = gain + values
        mean = (gain * weight).sum() / weight.sum()
        gain = (gain - mean) / (((gain - mean) ** 2 * weight).sum() / weight.sum()).sqrt().clamp(min=1e-4)
    policy = torch.distributions.Categorical(logits=walker.policy(seen))
    bonus = 0.02 * (1 - update / updates)
    loss = -(policy.log_prob(actions) * gain + bonus * policy.entropy()) + 0.5 * (values - goal_value) ** 2
    loss = (loss * weight).sum() / weight.sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(walker.parameters(), 1.0)
    optimizer.step()
    if (update + 1) % 40 == 0:
        print(f"update {update + 1} walks' mean length {weight.sum(0).mean():.2f} arrivals (greedy) {examine(walker):.3f}")
