"""Learning rates too high, too low or gone too soon, and too much weight decay."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.learning import usual_step
from planted.networks import Data, digits, mnist, prices, table, waves


def small_conv_net(width: int = 12) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


@fault("optim.lr-too-high")
def momentum_at_a_rate_of_three(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = small_conv_net()
    train, val = digits(seed).loaders(64, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03 if fixed else 3.0, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("optim.lr-too-high")
def adam_at_a_rate_of_one(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    train, val = mnist(seed).loaders(50, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=1e-3 if fixed else 1.0))


@fault("optim.lr-too-high")
def regression_that_overflows(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 1))
    train, val = prices(seed).loaders(20, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02 if fixed else 1.5)
    return Case(model, train, val, nn.MSELoss(), optimizer, task="regress")


@fault("optim.lr-too-high")
def rows_at_a_rate_for_another_optimizer(seed: int, fixed: bool = False) -> Case:
    """RMSprop with what would be right for plain descent."""
    torch.manual_seed(seed)
    rows_as_features = nn.Flatten(1, 2)
    model = nn.Sequential(rows_as_features, nn.Conv1d(8, 32, 3), nn.GELU(), nn.Conv1d(32, 32, 3), nn.GELU())
    model.extend([nn.Flatten(), nn.Linear(128, 32), nn.GELU(), nn.Linear(32, 10)])
    train, val = digits(seed).pairs()
    rate = 1e-3 if fixed else 0.5
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.RMSprop(params, lr=rate))


@fault("optim.lr-too-low")
def descent_at_a_millionth(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = small_conv_net()
    train, val = digits(seed).loaders(64, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05 if fixed else 1e-6, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("optim.lr-too-low")
def adam_at_ten_to_the_minus_eight(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(30, 24), nn.Tanh(), nn.Linear(24, 2))
    train, val = table("breast_cancer", seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.Adam(params, lr=3e-3 if fixed else 1e-8))


@fault("optim.lr-too-low")
def regression_that_hardly_moves(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 1)).double()
    data = prices(seed).double()
    data = Data(data.x, data.y.double(), data.x_val, data.y_val.double())
    train, val = data.loaders(16, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02 if fixed else 1e-6)
    return Case(model, train, val, nn.MSELoss(), optimizer, task="regress")


@fault("optim.lr-schedule")
def exponential_decay_stepped_at_every_batch(seed: int, fixed: bool = False) -> Case:
    """Meant for epochs."""
    torch.manual_seed(seed)
    model = small_conv_net()
    train, val = digits(seed).loaders(64, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
    per_epoch = len(train)
    done = 0

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        nonlocal done
        value = usual_step(model, batch, optimizer, loss)
        done += 1
        if not fixed or done % per_epoch == 0:
            scheduler.step()
        return value

    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


class Module(nn.Module):
    """Carries its optimizer and its schedule, as Lightning's do."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=3e-3)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=3, gamma=0.1)
        self.every = every
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seen += 1
        if self.seen % self.every == 0:
            self.scheduler.step()
        return loss.detach()


@fault("optim.lr-schedule")
def module_that_steps_its_schedule_in_training_step(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    train, val = digits(seed).loaders(32, seed)
    model = Module(len(train) if fixed else 1)

    def step(model: Module, batch: list[Tensor], optimizer: object, loss: object) -> Tensor:
        return model.training_step(batch)

    return Case(model, train, val, nn.CrossEntropyLoss(), model.optimizer, step)


@fault("optim.lr-schedule", also=["optim.lr-too-low"])
def warmup_of_a_million_steps(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    warmup = 20 if fixed else 10_000_000
    done = 0

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        nonlocal done
        done += 1
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * min(1.0, done / warmup)
        return usual_step(model, batch, optimizer, loss)

    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    train, val = table("wine", seed).loaders(16, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=5e-3), step)


@fault("optim.lr-schedule")
def cosine_that_ends_after_five_batches(seed: int, fixed: bool = False) -> Case:
    """T_max is in epochs, the steps are batches; what counts them lies in the optimizer's groups."""
    torch.manual_seed(seed)
    length = 400 if fixed else 5

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        for group in optimizer.param_groups:
            at = group["at"] = group.get("at", -1) + 1
            group["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * min(at, length) / length))
        return usual_step(model, batch, optimizer, loss)

    model = nn.Sequential(nn.Conv1d(1, 16, 9, stride=2), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 16, 5), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3)])
    train, val = waves(seed).loaders(32, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


@fault("optim.weight-decay-too-high")
def adamw_with_a_decay_of_a_hundred(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = small_conv_net()
    train, val = digits(seed).loaders(64, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01 if fixed else 100.0)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("optim.weight-decay-too-high")
def descent_with_a_decay_of_one_half(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    train, val = prices(seed).loaders(20, seed)
    decay = 1e-4 if fixed else 1.0
    return Case(
        model,
        train,
        val,
        nn.MSELoss(),
        lambda params: torch.optim.SGD(params, lr=0.02, momentum=0.9, weight_decay=decay),
        task="regress",
    )


@fault("optim.weight-decay-too-high")
def squares_of_weights_added_by_hand(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    strength = 1e-4 if fixed else 0.5

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        x, y = batch
        value = loss(model(x), y)
        penalty = sum((p**2).sum() for p in model.parameters())
        optimizer.zero_grad()
        (value + strength * penalty).backward()
        optimizer.step()
        return value

    model = nn.Sequential(nn.Conv2d(1, 12, 5, stride=2), nn.ELU(), nn.Conv2d(12, 24, 3, stride=2), nn.ELU())
    model.extend([nn.Flatten(), nn.Linear(600, 10)])
    train, val = mnist(seed).loaders(40, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)
