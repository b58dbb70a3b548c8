"""DQN that balances a stick, without classes: an environment of pure functions, many copies at once."""

import copy
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COPIES = 16
ITERATIONS = 10_000
REPORT = 500
WARMUP = 100
BATCH = 128
CAPACITY = 50_000
GAMMA = 0.95
SYNC = 50
LIMIT = 200  # steps after which an episode is cut off
FALL = 0.5  # radians
DT = 0.05


class State(NamedTuple):
    angle: Tensor
    speed: Tensor
    age: Tensor


def reset(count: int) -> State:
    uniform = lambda: 0.2 * torch.rand(count) - 0.1
    return State(uniform(), uniform(), torch.zeros(count))


def transition(state: State, action: Tensor) -> tuple[State, Tensor, Tensor]:
    """The state that follows, the reward (0.1 for each step survived or not), and whether the stick fell."""
    push = 3.0 * (2.0 * action - 1.0)
    speed = state.speed + DT * (4.0 * torch.sin(state.angle) + push) + 0.02 * torch.randn_like(state.speed)
    angle = state.angle + DT * speed
    fell = angle.abs() > FALL
    return State(angle, speed, state.age + 1), torch.full_like(angle, 0.1), fell


def select(mask: Tensor, yes: State, no: State) -> State:
    return State(*(torch.where(mask, a, b) for a, b in zip(yes, no)))


def observe(state: State) -> Tensor:
    return torch.stack([state.angle / FALL, state.speed / 1.5], dim=1)


def epsilon(iteration: int) -> float:
    return max(0.05, 1.0 - iteration / (0.3 * ITERATIONS))


def act(net: nn.Module, obs: Tensor, eps: float) -> Tensor:
    with torch.no_grad():
        greedy = net(obs).argmax(dim=1)
    chance = torch.randint(0, 2, greedy.shape)
    return torch.where(torch.rand(greedy.shape) < eps, chance, greedy)


def make_replay(capacity: int):
    store = [
        torch.zeros(capacity, 2),
        torch.zeros(capacity, dtype=torch.long),
        torch.zeros(capacity),
        torch.zeros(capacity, 2),
        torch.zeros(capacity),
    ]
    filled = 0

    def push(*columns: Tensor) -> None:
        nonlocal filled
        rows = (filled + torch.arange(len(columns[0]))) % capacity
        for kept, column in zip(store, columns):
            kept[rows] = column.to(kept.dtype)
        filled += len(columns[0])

    def sample(count: int) -> list[Tensor]:
        rows = torch.randint(0, min(filled, capacity), (count,))
        return [kept[rows] for kept in store]

    return push, sample


def make_learner(net: nn.Module, lr: float = 5e-4):
    target = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)

    def learn(obs, action, reward, next_obs, fell) -> float:
        with torch.no_grad():
            best = target(next_obs).max(dim=1).values
            goal = reward + GAMMA * best * (1.0 - fell)
        value = net(obs).gather(1, action.unsqueeze(1)).squeeze(1)
        loss = F.mse_loss(value, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def sync() -> None:
        target.load_state_dict(net.state_dict())

    return learn, sync


def survival(net: nn.Module, count: int = 64) -> float:
    """Mean number of steps, of at most LIMIT, that the greedy policy keeps the stick up."""
    state, alive, steps = reset(count), torch.ones(count, dtype=torch.bool), torch.zeros(count)
    for _ in range(LIMIT):
        state, _, fell = transition(state, act(net, observe(state), 0.0))
        alive = alive & ~fell
        steps += alive.float()
    return steps.mean().item()


def main() -> None:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    push, sample = make_replay(CAPACITY)
    learn, sync = make_learner(net)
    state = reset(COPIES)
    obs = observe(state)
    losses = []
    print(f"untrained: {survival(net):.1f} steps")

    for iteration in range(1, ITERATIONS + 1):
        action = act(net, obs, epsilon(iteration))
        after, reward, fell = transition(state, action)
        next_obs = observe(after)
        push(obs, action, reward, next_obs, fell)
        state = select(fell | (after.age >= LIMIT), reset(COPIES), after)
        obs = observe(state)
        if iteration > WARMUP:
            losses.append(learn(*sample(BATCH)))
            if iteration % SYNC == 0:
                sync()
        if iteration % REPORT == 0:
            mean = sum(losses) / max(1, len(losses))
            print(f"{iteration:6d}  eps {epsilon(iteration):.2f}  rmse {math.sqrt(mean):.4f}  greedy {survival(net):.1f} steps")
            losses.clear()


if __name__ == "__main__":
    main()
