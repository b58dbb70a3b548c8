"""Inputs to zero mean and unit variance, with figures from the training split only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from striate.data.dataset import Split

Normalize = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation per channel (images and grids) or per feature (tables), in input units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def on(self, device: torch.device | str, ndim: int) -> Normalize:
        """A function from a raw batch of `ndim` axes, (B, C, …) or (B, F), to float32 `(x − mean) / std`."""
        shape = (1, -1) + (1,) * (ndim - 2)
        mean = torch.tensor(self.mean, dtype=torch.float32, device=device).view(shape)
        scale = torch.tensor(self.std, dtype=torch.float64).reciprocal().float().to(device).view(shape)
        return lambda x: _laid_out((x.to(torch.float32) - mean) * scale)


def _laid_out(x: torch.Tensor) -> torch.Tensor:
    """The same numbers with definite strides. Images of one channel are channels last and contiguous at once; saying
    the former makes the convolutions after them 1.4 times faster on a CPU (benchmarks/fashion_epoch.py)."""
    x = x.contiguous()
    if x.ndim == 4 and x.shape[1] == 1:
        return x.as_strided(x.shape, (x.shape[2] * x.shape[3], 1, x.shape[3], 1))
    return x


def measure_normalization(train: Split) -> Normalization:
    """Mean and standard deviation of the training split, exact for bytes; a constant channel is divided by 1."""
    x = train.inputs.cpu()
    if x.dtype == torch.uint8:
        levels = torch.arange(256, dtype=torch.float64)
        counts = torch.stack([torch.bincount(x[:, c].reshape(-1), minlength=256) for c in range(x.shape[1])])
        share = counts.double() / counts.sum(1, keepdim=True)
        mean = share @ levels
        std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    else:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        std, mean = torch.std_mean(x.double(), dim=axes, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()))
