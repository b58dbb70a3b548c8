"""Gaussian noise on standardized inputs, a pure function of (seed, epoch, sample id)."""

from __future__ import annotations

import math

import torch

from striate.data.config import AugmentConfig
from striate.data.counter_normal import normals
from striate.data.counter_random import hash_key, uniforms
from striate.data.transfer import sent


def with_noise(inputs: torch.Tensor, config: AugmentConfig, seed: int, epoch: int, ids: torch.Tensor) -> torch.Tensor:
    """Standardized inputs (B, …) float32 with noise of `augment.noise`; the same object where that is 0 or open.

    The standard deviation of a sample's noise is uniform in [0, noise], in units of the spread of the data, which
    normalization made 1. The numbers depend on seed, epoch and id, not on batch, layout or order.
    """
    if not config.noise:
        return inputs
    known = ids.numpy()
    strength = torch.from_numpy(uniforms(hash_key(seed, epoch, 3), known, 1)[:, 0] * config.noise)
    drawn = normals(hash_key(seed, epoch, 4), sent(ids, inputs.device), math.prod(inputs.shape[1:]))
    drawn *= sent(strength.to(drawn.dtype), drawn.device)[:, None]
    # The result is laid out as the inputs are: the convolutions after it depend on that for their speed.
    return torch.add(inputs, drawn.view(inputs.shape), out=torch.empty_like(inputs))
