"""Training on blends of two samples, with the loss of both: mixup and cutmix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from striate.data.config import AugmentConfig
from striate.data.counter_random import hash_key
from striate.data.targets import Targets
from striate.data.transfer import sent


@dataclass(frozen=True)
class Mix:
    """What the samples of a batch were blended with: (B, …) `targets` of their partners, and the `share` of the sample
    itself."""

    targets: Targets
    share: float

    def part(self, start: int, stop: int) -> Mix:
        """Of the samples `start` to `stop`."""
        return Mix(self.targets[start:stop], self.share)


def mix_batch(
    inputs: torch.Tensor, targets: Targets, config: AugmentConfig, seed: int, step: int, *, paste: bool = False
) -> tuple[torch.Tensor, Targets, Mix | None]:
    """Inputs (B, C, …) blended with a permutation of themselves, as a function of (seed, step); one share a batch.
    With them their targets, and how the loss has to blend those (None where it has not).

    `mixup`: share · x + (1 − share) · x', with share ~ Beta(alpha, alpha) (Zhang et al. 2017). `cutmix`: a box of
    1 − share of the area of x' is pasted into x; the share is then that of the pixels (Yun et al. 2019). Where
    `paste` says that targets lie on the grid of the image, they are pasted with it: each pixel of a mask still has one
    class. Where both are on, a coin decides at each step.
    """
    mixup, cutmix = config.mixup or 0.0, config.cutmix or 0.0
    if not (mixup or cutmix) or len(inputs) < 2:
        return inputs, targets, None
    random = np.random.default_rng(hash_key(seed, step, 5, 0))
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    alpha = cutmix if cut else mixup
    share = float(random.beta(alpha, alpha))
    partner = sent(torch.from_numpy(random.permutation(len(inputs))), inputs.device)
    if not cut:
        return share * inputs + (1 - share) * inputs[partner], targets, Mix(targets[partner], share)
    grid = inputs.shape[2:]
    box = _box(grid, share, random)
    mixed = _pasted(inputs, partner, (slice(None), slice(None), *box))
    if paste:
        return mixed, _pasted(targets, partner, (slice(None), *box)), None
    area = math.prod(s.stop - s.start for s in box) / math.prod(grid)
    return mixed, targets, Mix(targets[partner], 1 - area)


def _pasted(values: torch.Tensor, partner: torch.Tensor, window: tuple[slice, ...]) -> torch.Tensor:
    result = values.clone(memory_format=torch.preserve_format)
    result[window] = values[partner][window]
    return result


def _box(sizes: torch.Size, share: float, random: np.random.Generator) -> tuple[slice, ...]:
    """A box of the grid's own proportions with 1 − share of its volume, around a random point, clipped at the edges."""
    side = (1 - share) ** (1 / len(sizes))
    slices = []
    for size in sizes:
        center, half = random.uniform(0, size), side * size / 2
        slices.append(slice(max(0, round(center - half)), min(size, round(center + half))))
    return tuple(slices)
