"""Normalization of inputs to mean 0 and variance 1, by the mean and standard deviation of the training split only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from striate.data.dataset import Split
from striate.data.media.clip.flow import STILL
from striate.data.memory_layout import contiguous
from striate.data.store.stored import Inputs, StoredInputs, channel_sums

_CHUNK_BYTES = 8 << 20
_SMALL = 2**18  # values: up to this, one thread is faster than starting others


@dataclass(frozen=True)
class Normalize:
    """Standardizes raw batches, (B, C, …) or (B, F), to `(x − mean) · scale`; made by `Normalization.on`."""

    mean: torch.Tensor
    """(C,) or (F,) float32, on the device of the batches."""
    scale: torch.Tensor
    """(C,) or (F,) float32, on the device of the batches."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A new batch, contiguous, float32. The numbers do not depend on the device."""
        small = x.device.type == "cpu" and x.numel() <= _SMALL
        return contiguous(self._in_one_thread(x) if small else self._in_threads(x))

    def _in_one_thread(self, x: torch.Tensor) -> torch.Tensor:
        mean, scale = self.mean.numpy(), self.scale.numpy()
        if mean.size == 1:  # NumPy is faster with a scalar
            mean, scale = mean.reshape(()), scale.reshape(())
        values = x.numpy().astype(np.float32, order="C")
        with np.errstate(over="ignore"):  # as torch: predictions of Inf are refused
            values -= mean
            values *= scale
        return torch.from_numpy(values)

    def _in_threads(self, x: torch.Tensor) -> torch.Tensor:
        values = x - self.mean if x.is_floating_point() else x.to(torch.float32).sub_(self.mean)
        return values.mul_(self.scale)


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
        return Normalize(mean, scale)


def measure_normalization(train: Split, *, motion: bool = False) -> Normalization:
    """Mean and standard deviation of the training split, exact for bytes; a constant channel is divided by 1.

    `motion`: the last two channels are motion to the right and down. They keep 0 for no motion, and share a scale, so
    that directions do not change."""
    if train.inputs.dtype == torch.uint8:
        mean, std = _moments_of_bytes(train.inputs)
    elif train.inputs.ndim == 4:  # these may be stored; the result is the same in every store
        mean, std = _moments_of_numbers(train.inputs)
    else:
        x = train.inputs[:].cpu()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        std, mean = torch.std_mean(x.double(), dim=axes, correction=0)
    if motion:
        std[-2:] = (std[-2:].square() + (mean[-2:] - STILL).square()).mean().sqrt()
        mean[-2:] = STILL
    std = divisor(mean, std)
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()))


def scale_to_unit(train: Split) -> Normalization:
    """Scales inputs to 0 … 1: bytes are divided by 255, other numbers by the range of their channel or feature in the
    training split."""
    if train.inputs.dtype == torch.uint8:
        channels = train.inputs.shape[1]
        return Normalization((0.0,) * channels, (255.0,) * channels)
    x = train.inputs[:].cpu().double()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    low, high = x.amin(axes), x.amax(axes)
    return Normalization(tuple(low.tolist()), tuple(divisor(low, high - low).tolist()))


def divisor(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The divisor: `std`, or 1 where `std` is at most the rounding error of float32 for numbers of this size, since
    dividing would scale rounding noise up to the size of other columns."""
    return torch.where(std > torch.finfo(torch.float32).eps * mean.abs(), std, torch.ones_like(std))


def _moments_of_numbers(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel of (N, C, H, W) float32, by the sums of each image."""
    if isinstance(inputs, StoredInputs):
        sums = inputs.source.sums(inputs.rows)
    else:
        step = max(1, _CHUNK_BYTES // max(1, 4 * inputs[:1].numel()))
        parts = (inputs[start : start + step].cpu().numpy() for start in range(0, len(inputs), step))
        sums = np.concatenate([channel_sums(part) for part in parts])
    total, squares = sums.sum(0).T / (len(inputs) * math.prod(inputs.shape[2:]))
    mean, variance = torch.from_numpy(total.copy()), torch.from_numpy(squares - total * total)
    return mean, variance.clamp(min=0).sqrt()


def _moments_of_bytes(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel, computed in integers: the same in every store."""
    if isinstance(inputs, StoredInputs):
        sums = inputs.source.sums(inputs.rows).sum(0)
    else:
        sums = np.zeros((inputs.shape[1], 2), np.int64)
        step = max(1, _CHUNK_BYTES // max(1, inputs[:1].numel()))
        for start in range(0, len(inputs), step):
            sums += channel_sums(inputs[start : start + step].cpu().numpy()).sum(0)
    count = len(inputs) * math.prod(inputs.shape[2:])
    mean = [total / count for total in sums[:, 0].tolist()]
    # In integers, nothing is lost where the standard deviation is small compared with the mean.
    std = [math.sqrt((count * squares - total * total) / (count * count)) for total, squares in sums.tolist()]
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
