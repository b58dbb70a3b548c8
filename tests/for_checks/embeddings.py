"""Networks and steps that tests of checks share where pairs or triplets are learned from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from for_checks.asked import perceptron


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Signals (N, 1, 64) of three frequencies, that begin at any time, and which it is (N,)."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(count) % 3
    angles = 6.28 * (2 + 4 * kinds[:, None]) * torch.arange(64) / 64 + 6.28 * torch.rand(count, 1, generator=generator)
    return (angles.sin() + 0.2 * torch.randn(count, 64, generator=generator))[:, None], kinds


class SignalTriplets(Dataset[Any]):
    """A signal, the next of its class and one of another class."""

    def __init__(self, signals: Tensor, labels: Tensor) -> None:
        self.signals, self.labels = signals, labels

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        return tuple(self.signals[place % len(self)] for place in (number, number + 3, number + 1))


class Spectra(nn.Module):
    """An embedding of signals, by what each frequency has of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(33, 8)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layer(torch.tanh(torch.fft.rfft(x[:, 0]).abs() / 8)), dim=1)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.layer(x.flatten(1)), dim=1)


def triplets(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean over those that still violate the margin."""
    apart = 2 - 2 * outputs @ outputs.T
    same = labels[:, None] == labels
    hinge = functional.relu(apart[:, :, None] - apart[:, None, :] + 0.4)[same[:, :, None] & ~same[:, None, :]]
    return hinge.sum() / (hinge > 0).sum().clamp(min=1)


def supervised_contrast(swapped: bool) -> Any:
    """A step on two noisy views of a batch, behind each other."""

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        z, y = model(torch.cat([x + 0.1 * torch.randn_like(x) for _ in range(2)])), y.repeat(2)
        scores, own = z @ z.T / 0.2, torch.eye(len(z), dtype=torch.bool)
        mates = ((y[:, None] == y) ^ swapped) & ~own
        log_shares = scores - scores.masked_fill(own, -1e9).logsumexp(1, keepdim=True)
        value = -((log_shares * mates).sum(1) / mates.sum(1).clamp(min=1)).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


class ImageTriplets(Dataset[Any]):
    """An image, the next of its class and one of another class, with noise."""

    def __init__(self, images: Tensor, labels: Any) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        places = (number, (number + 3) % len(self), (number + 1) % len(self))
        return tuple(self.images[place] + 0.1 * torch.randn(1, 8, 8) for place in places)


def step_of_triplets(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    loss = functional.triplet_margin_loss(*(model(part) for part in batch))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def contrast_of_views(view: Callable[[Tensor], Tensor], mates: Callable[[Tensor], Tensor]) -> Any:
    """A step of SimCLR: two views of each image, each scored with each; `mates` of the row numbers."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        views = functional.normalize(torch.cat([model(view(batch[0])), model(view(batch[0]))]), dim=1)
        scores = (views @ views.T / 0.2).masked_fill(torch.eye(len(views), dtype=torch.bool), float("-inf"))
        value = functional.cross_entropy(scores, mates(torch.arange(len(views))))
        value.backward()
        optimizer.step()
        return value.detach()

    return step


class DeepEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(perceptron(), nn.Linear(10, 6))  # another number than there are classes

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.body(x), dim=1)


def embedding(numbers: int = 64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(numbers, 48), nn.ReLU(), nn.Linear(48, 16))


def noisy(x: Tensor) -> Tensor:
    return x + 0.3 * torch.randn_like(x)


def opposite(rows: Tensor) -> Tensor:
    return rows.roll(len(rows) // 2)
