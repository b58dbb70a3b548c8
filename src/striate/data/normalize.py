"""Inputs to zero mean and unit variance, with the mean and standard deviation of the training split alone."""

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
_SMALL = 2**18  # values: up to here one thread is done before others would have begun


@dataclass(frozen=True)
class Normalize:
    """From raw batches, (B, C, …) or (B, F), to `(x − mean) · scale`; made by `Normalization.on`.

    `mean`, `scale`: float32, one number a channel or feature, on the device of the batches.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A new batch, contiguous, float32. The numbers do not depend on where they are computed."""
        small = x.device.type == "cpu" and x.numel() <= _SMALL
        return contiguous(self._in_one_thread(x) if small else self._in_threads(x))

    def _in_one_thread(self, x: torch.Tensor) -> torch.Tensor:
        mean, scale = self.mean.numpy(), self.scale.numpy()
        if mean.size == 1:  # NumPy has a faster way for a single number
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
    """Mean and standard deviation of the training split, exact for bytes; a constant channel is divided by 1. `motion`:
    the last two channels are motion to the right and down: what stands still stays 0, and both have one scale, so that
    directions stay what they are."""
    if train.inputs.dtype == torch.uint8:
        mean, std = _moments_of_bytes(train.inputs)
    elif train.inputs.ndim == 4:  # these may be stored: the same wherever they lie
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
    """From the range of the inputs to 0 … 1: bytes are divided by 255, other numbers by their range in the training
    split, each channel or feature by its own."""
    if train.inputs.dtype == torch.uint8:
        channels = train.inputs.shape[1]
        return Normalization((0.0,) * channels, (255.0,) * channels)
    x = train.inputs[:].cpu().double()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    low, high = x.amin(axes), x.amax(axes)
    return Normalization(tuple(low.tolist()), tuple(divisor(low, high - low).tolist()))


def divisor(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """What is divided by: `std`, or 1 where it is 0 or no more than float32 rounds numbers of this size, since that
    noise would be made as large as what other columns tell."""
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
    """Mean and standard deviation per channel, from whole numbers: the same wherever the images lie."""
    if isinstance(inputs, StoredInputs):
        sums = inputs.source.sums(inputs.rows).sum(0)
    else:
        sums = np.zeros((inputs.shape[1], 2), np.int64)
        step = max(1, _CHUNK_BYTES // max(1, inputs[:1].numel()))
        for start in range(0, len(inputs), step):
            sums += channel_sums(inputs[start : start + step].cpu().numpy()).sum(0)
    count = len(inputs) * math.prod(inputs.shape[2:])
    mean = [total / count for total in sums[:, 0].tolist()]
    # In whole numbers: nothing is lost where the standard deviation is small against the mean.
    std = [math.sqrt((count * squares - total * total) / (count * count)) for total, squares in sums.tolist()]
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
