"""A network for volumes that computes large ones in overlapping windows.

A volume of 512 × 512 × 300 voxels as a whole would take 5 GB for each map of 16 channels. Windows overlap by half.
Where several windows predict a voxel, each counts by a Gaussian of an eighth of its side around its middle (Isensee et
al., "nnU-Net", Nature Methods 2021).
"""

from __future__ import annotations

from itertools import product

import torch
from torch import nn
from torch.nn import functional

SIDE = 96
"""Voxels along each side of a window. Sides of a volume up to this length are not cut."""
MULTIPLE = 8
_SIGMA = 1 / 8


class InWindows(nn.Module):
    """`network` (N, C, D, H, W) to (N, K, D, H, W), for volumes of any size. Sides are padded with 0 to a multiple of
    8; in eval mode, windows of `side` voxels are computed one by one."""

    def __init__(self, network: nn.Module, side: int = SIDE) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K, D, H, W) outputs."""
        if self.training or max(x.shape[2:]) <= self.side:
            return self._padded(x)
        sides = [min(self.side, size) for size in x.shape[2:]]
        weight = _weights(sides).to(x.device)
        total, sums = torch.zeros(0), x.new_zeros(x.shape[2:])
        for corner in product(*(_starts(size, side) for size, side in zip(x.shape[2:], sides, strict=True))):
            deep, tall, wide = (slice(start, start + side) for start, side in zip(corner, sides, strict=True))
            outputs = self._padded(x[..., deep, tall, wide]).float() * weight
            if not total.numel():
                total = outputs.new_zeros(len(x), outputs.shape[1], *x.shape[2:])
            total[..., deep, tall, wide] += outputs
            sums[deep, tall, wide] += weight
        return total / sums

    def _padded(self, x: torch.Tensor) -> torch.Tensor:
        deep, tall, wide = x.shape[2:]
        if deep % MULTIPLE or tall % MULTIPLE or wide % MULTIPLE:
            x = functional.pad(x, (0, -wide % MULTIPLE, 0, -tall % MULTIPLE, 0, -deep % MULTIPLE))
        outputs: torch.Tensor = self.network(x)
        return outputs[..., :deep, :tall, :wide]

    def as_traced(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs for volumes of up to `side` voxels per side, without comparing sizes: a comparison would be
        decided once, while the network is traced."""
        sides = x.shape[2:]
        for axis, size in enumerate(sides, 2):
            parts = (size + -size % MULTIPLE) // MULTIPLE  # so that the tracer knows what divides the product
            places = torch.arange(MULTIPLE * parts)
            there = (places < size).view(-1, *(1,) * (x.ndim - 1 - axis))
            x = x.index_select(axis, places.clamp(max=size - 1)) * there.to(x.dtype)
        outputs: torch.Tensor = self.network(x)
        for axis, size in enumerate(sides, 2):  # copied, as `decoder.upper_left` says why
            outputs = outputs.index_select(axis, torch.arange(size))
        return outputs


def _starts(size: int, side: int) -> list[int]:
    """Where windows begin: at most half a window apart, the last one at the end."""
    steps = -(-2 * (size - side) // side)
    return [round(k * (size - side) / max(1, steps)) for k in range(steps + 1)]


def _weights(sides: list[int]) -> torch.Tensor:
    """(D, H, W) weights of the outputs of a window, large enough everywhere for an exact quotient."""
    deep, tall, wide = (
        torch.exp(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (_SIGMA * side)) ** 2).clamp(min=1e-3)
        for side in sides
    )
    return deep[:, None, None] * tall[:, None] * wide
