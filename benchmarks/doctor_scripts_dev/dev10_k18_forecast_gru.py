"""Forecasting: the next eight values of noisy seasonal series from the forty before, with a GRU; other series are kept for
validation, and repeating the last value is the figure to beat."""

import math
from typing import Iterator, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAST, AHEAD, LENGTH = 40, 8, 120


class Windows(NamedTuple):
    past: Tensor
    future: Tensor


def series(count: int, generator: torch.Generator) -> Tensor:
    """A season of its own period and phase, a weak trend, a level, and noise."""
    t = torch.arange(LENGTH).float()
    period = 10 + 10 * torch.rand(count, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(count, 1, generator=generator)
    height = 1 + torch.rand(count, 1, generator=generator)
    slope = 0.01 * torch.randn(count, 1, generator=generator)
    level = 2 * torch.randn(count, 1, generator=generator)
    noise = 0.1 * torch.randn(count, LENGTH, generator=generator)
    return level + slope * t + height * torch.sin(2 * math.pi * t / period + phase) + noise


def cut(values: Tensor, stride: int) -> Windows:
    """Windows of all series, each less the mean of its past and over its deviation."""
    windows = values.unfold(1, PAST + AHEAD, stride).reshape(-1, PAST + AHEAD)
    past, future = windows[:, :PAST], windows[:, PAST:]
    mean, std = past.mean(1, keepdim=True), past.std(1, keepdim=True)
    return Windows((past - mean) / std, (future - mean) / std)


def batches(data: Windows, size: int) -> Iterator[Windows]:
    for chosen in torch.randperm(len(data.past)).split(size):
        yield Windows(data.past[chosen], data.future[chosen])


class Forecaster(nn.Module):
    def __init__(self, hidden: int = 64):
        super().__init__()
        self.recurrent = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, AHEAD))

    def forward(self, past: Tensor) -> Tensor:
        _, state = self.recurrent(past.unsqueeze(-1))
        # the change since the last value is what is learned
        return past[:, -1:] + self.head(state[-1])


@torch.no_grad()
def mean_absolute_error(model: nn.Module, data: Windows) -> float:
    model.eval()
    errors = [(model(p) - f).abs().sum() for p, f in zip(data.past.split(300), data.future.split(300))]
    return (torch.stack(errors).sum() / data.future.numel()).item()


def main() -> None:
    torch.manual_seed(31)
    generator = torch.Generator().manual_seed(31)
    train = cut(series(500, generator), stride=12)
    val = cut(series(80, generator), stride=24)
    naive = (val.past[:, -1:] - val.future).abs().mean().item()
    print(f"{len(train.past)} windows of training, {len(val.past)} of validation; last value: MAE {naive:.4f}")

    epochs = 14
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[9, 12], gamma=0.3)
    for epoch in range(1, epochs + 1):
        model.train()
        total = torch.zeros(())
        for past, future in batches(train, 64):
            loss = F.huber_loss(model(past), future, delta=0.5)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.detach() * len(past)
        scheduler.step()
        error = mean_absolute_error(model, val)
        print(f"epoch {epoch:2d}: huber {total.item() / len(train.past):.4f}  val MAE {error:.4f}  ({error / naive:.2f} of naive)")


if __name__ == "__main__":
    main()
