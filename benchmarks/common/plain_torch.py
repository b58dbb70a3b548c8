"""Training in plain torch, as everyone writes it: a peer in several workloads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from common.gate import Gate


def train_by_turns(
    gate: Gate,
    network: nn.Module,
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    per_turn: int | None = None,
) -> None:
    """The loop: a turn is an epoch, or at least `per_turn` samples."""
    network.train()
    batches = _for_ever(loader) if per_turn is not None else None
    while True:
        gate.begin()
        seen = 0
        for x, y in loader if batches is None else batches:
            loss = functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(y)
            if per_turn is not None and seen >= per_turn:
                break
        gate.end(seen)


def _for_ever(loader: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader


def shifted_and_flipped(padded: torch.Tensor, rows: torch.Tensor, side: int) -> torch.Tensor:
    """Those rows of images (N, C, H, W) with a border, cut at random to `side` pixels and flipped by chance, a whole
    batch by two or three operations."""
    places, border = torch.arange(side, device=padded.device), (padded.shape[2] - side) // 2
    down, right = torch.randint(0, 2 * border + 1, (2, len(rows), 1), device=padded.device) + places
    x = padded[rows[:, None, None], :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)
    flip = (torch.rand(len(rows), device=padded.device) < 0.5).view(-1, 1, 1, 1)
    return torch.where(flip, x.flip(3), x)


class Samples(Dataset):
    """One sample at a time, as tutorials have it: bytes to a standardized float image, before that flipped by chance
    and cut at random out of its version with a border of `border` pixels."""

    def __init__(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        mean: list[float],
        std: list[float],
        *,
        border: int = 0,
        flip: bool = False,
    ) -> None:
        self.x, self.y, self.border, self.flip = x, y, border, flip
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.varied(self.x[i]), self.y[i]

    def varied(self, x: torch.Tensor) -> torch.Tensor:
        """Cut, flipped, standardized."""
        if self.border:
            height, width = x.shape[1:]
            padded = functional.pad(x, [self.border] * 4)
            top, left = (int(torch.randint(0, 2 * self.border + 1, ())) for _ in range(2))
            x = padded[:, top : top + height, left : left + width]
        if self.flip and torch.rand(()) < 0.5:
            x = x.flip(2)
        return (x.float() / 255 - self.mean) / self.std


def channel_statistics(x: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (N, C, H, W) bytes, on the scale from 0 to 1."""
    pixels = x[:10_000].float() / 255
    return pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3)).tolist()
