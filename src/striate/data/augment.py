"""How training images vary: a warp a batch, a pure function of (seed, epoch, sample id)."""

from __future__ import annotations

import math

import torch

from striate.data.config import AugmentConfig
from striate.data.counter_random import hash_key, uniforms
from striate.data.warp import Warp

_ASPECT = math.log(4 / 3)  # crops are between 3:4 and 4:3, as in Szegedy et al. 2014


def draw_warp(config: AugmentConfig, seed: int, epoch: int, ids: torch.Tensor) -> Warp | None:
    """The warp of each of the (B,) samples `ids` in this epoch, or None where nothing is to vary.

    The result does not depend on the batch that a sample is in.
    """
    if not (config.shift or config.flip or (config.crop or 1) < 1):
        return None
    u = torch.from_numpy(uniforms(hash_key(seed, epoch, 1), ids.cpu().numpy(), 7))
    flip = (u[:, 0] < 0.5) if config.flip else torch.zeros(len(ids), dtype=torch.bool)
    reach = config.shift or 0
    shift = torch.floor(u[:, 1:3] * (2 * reach + 1)).long() - reach
    box = _boxes(config.crop or 1, u[:, 3:]) if (config.crop or 1) < 1 else None
    return Warp(flip, shift, box)


def augment_batch(
    inputs: torch.Tensor, config: AugmentConfig, seed: int, epoch: int, ids: torch.Tensor
) -> tuple[torch.Tensor, Warp | None]:
    """Raw inputs (B, C, H, W) as this epoch's network sees them, and the warp that targets have to follow (None: none)."""
    warp = draw_warp(config, seed, epoch, ids)
    return (inputs, None) if warp is None else (warp.apply(inputs), warp)


def _boxes(smallest: float, u: torch.Tensor) -> torch.Tensor:
    """(B, 4) top, left, height, width as shares: area uniform in [smallest, 1], aspect ratio log-uniform."""
    area = smallest + (1 - smallest) * u[:, 0]
    stretch = torch.exp((2 * u[:, 1] - 1) * _ASPECT / 2)
    height = (area.sqrt() * stretch).clamp(max=1.0)
    width = (area.sqrt() / stretch).clamp(max=1.0)
    return torch.stack([u[:, 2] * (1 - height), u[:, 3] * (1 - width), height, width], dim=1).float()
