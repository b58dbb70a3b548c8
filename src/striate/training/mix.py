"""Training on blends of two samples, with the loss of both: mixup and cutmix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from striate.data.config import AugmentConfig
from striate.data.counter_random import hash_key


@dataclass(frozen=True)
class Mix:
    """Who a batch was blended with: (B,) `partner` places in the batch, and the `share` of the sample itself."""

    partner: torch.Tensor
    share: float


def mix_batch(
    inputs: torch.Tensor, config: AugmentConfig, seed: int, step: int, part: int = 0
) -> tuple[torch.Tensor, Mix | None]:
    """Inputs (B, …) blended with a permutation of themselves, as a function of (seed, step, part); one share a batch.

    `mixup`: share · x + (1 − share) · x', with share ~ Beta(alpha, alpha) (Zhang et al. 2017). `cutmix`: a box of
    1 − share of the area of x' is pasted into x; the share is then that of the pixels (Yun et al. 2019). Where both
    are on, a coin decides at each step.
    """
    mixup, cutmix = config.mixup or 0.0, config.cutmix or 0.0
    if not (mixup or cutmix) or len(inputs) < 2:
        return inputs, None
    random = np.random.default_rng(hash_key(seed, step, 5, part))
    cut = bool(cutmix) and (not mixup or random.random() < 0.5)
    alpha = cutmix if cut else mixup
    share = float(random.beta(alpha, alpha))
    partner = torch.from_numpy(random.permutation(len(inputs))).to(inputs.device)
    if not cut:
        return share * inputs + (1 - share) * inputs[partner], Mix(partner, share)
    box = _box(inputs.shape[2:], share, random)
    mixed = inputs.clone(memory_format=torch.preserve_format)
    window = (slice(None), slice(None), *box)
    mixed[window] = inputs[partner][window]
    pasted = math.prod(s.stop - s.start for s in box) / math.prod(inputs.shape[2:])
    return mixed, Mix(partner, 1 - pasted)


def _box(sizes: torch.Size, share: float, random: np.random.Generator) -> tuple[slice, ...]:
    """A box of the grid's own proportions with 1 − share of its volume, around a random point, clipped at the edges."""
    side = (1 - share) ** (1 / len(sizes))
    slices = []
    for size in sizes:
        center, half = random.uniform(0, size), side * size / 2
        slices.append(slice(max(0, round(center - half)), min(size, round(center + half))))
    return tuple(slices)
