"""Healthy networks with other losses and regularization than the plainest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from planted.case import Case, healthy
from planted.healthy_sources import digits, loader, loaders, table


def small_network(width: int = 16, dropout: float = 0.0) -> nn.Sequential:
    """Two convolutions and two full layers for digits of 8 × 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4 * width, 48), nn.ReLU(), nn.Dropout(dropout), nn.Linear(48, 10),
    )  # fmt: skip


@healthy
def smoothed_labels(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Case(model, train, val, nn.CrossEntropyLoss(label_smoothing=0.1), optimizer)


@healthy
def half_of_the_units_dropped(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1), nn.Flatten(),
        nn.Linear(384, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@healthy
def decayed_weights(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 32)
    model = small_network(12)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(groups, lr=2e-3))


class LogProbabilities(nn.Module):
    """Logarithms of probabilities, as nll_loss wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small_network()

    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.body(x), dim=1)


@healthy
def log_probabilities_and_their_loss(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = LogProbabilities()
    return Case(model, train, val, functional.nll_loss, torch.optim.Adagrad(model.parameters(), lr=0.02))


@healthy
def a_margin_between_classes(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return Case(model, train, val, nn.MultiMarginLoss(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


@healthy
def losses_summed_over_the_batch(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed), 50)
    model = small_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=4e-4, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(reduction="sum"), optimizer)


class Focal(nn.Module):
    """Cross-entropy that counts what is known already for less."""

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = functional.log_softmax(logits, dim=1).gather(1, labels[:, None])[:, 0]
        return -((1 - log_p.exp()) ** self.gamma * log_p).mean()


@healthy
def focal_loss(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()
    return Case(model, train, val, Focal(), torch.optim.Adam(model.parameters(), lr=2e-3))


@healthy
def classes_weighted_for_mild_imbalance(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    rare = parts.y < 3
    kept = ~rare | (torch.rand(len(parts.y), generator=torch.Generator().manual_seed(seed)) < 0.4)
    y = parts.y[kept]
    weight = len(y) / (10 * torch.bincount(y, minlength=10).float())
    model = small_network()
    val = loader(parts.x_val, parts.y_val, 100, shuffle=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Case(model, loader(parts.x[kept], y), val, nn.CrossEntropyLoss(weight=weight), optimizer)


@healthy
def three_answers_for_each_digit(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)

    def answers(y: Tensor) -> Tensor:
        looped = (y == 0) | (y == 6) | (y == 8) | (y == 9)
        return torch.stack([y % 2 == 0, y > 4, looped], dim=1).float()

    train = loader(parts.x, answers(parts.y), 48)
    val = loader(parts.x_val, answers(parts.y_val), 200, shuffle=False)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(576, 32),
        nn.ReLU(),
        nn.Linear(32, 3),
    )
    return Case(model, train, val, nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=1e-3), task="tags")


@healthy
def targets_given_as_probabilities(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    train = loader(parts.x, functional.one_hot(parts.y, 10) * 0.9 + 0.01)
    val = loader(parts.x_val, functional.one_hot(parts.y_val, 10) * 0.9 + 0.01, 200, shuffle=False)
    model = small_network()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@healthy
def a_penalty_added_to_the_loss(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = table("wine", seed, 130, 48)
    train, val = loaders(parts, 26)
    model = nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 3))

    def step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer, loss: nn.Module) -> Tensor:
        x, y = batch
        optimizer.zero_grad(set_to_none=True)
        penalty = sum(p.abs().sum() for p in model.parameters() if p.ndim > 1)
        objective = loss(model(x), y) + 1e-3 * penalty
        objective.backward()
        optimizer.step()
        return objective.detach()

    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=5e-3), step)
