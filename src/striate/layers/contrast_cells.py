"""Contrast cells: where it is brighter, and where darker, than around."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from striate.layers.cells import full_precision
from striate.layers.windows import wide


class ContrastCells(nn.Module):
    """On-center and off-center cells, as of the retina: (N, C, H, W) to (N, 2 C, H, W), nothing below zero.

    φ[± Σ w(ν) u(n + ν)] with w the difference of two Gaussians (standard deviations 1 and 2 pixels, 7×7) whose sum is 0
    and whose positive part sums to 1. So the mean of the input does not matter, and standardized inputs serve as well
    as intensities. The border is replicated, since a frame of zeros would be an edge. First all on-center planes, then
    all off-center ones.
    Source: layer U_G of Fukushima, "Neocognitron for handwritten digit recognition", Neurocomputing 51, 2003.
    """

    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(7, dtype=torch.float32) - 3
        squares = offsets.square()[:, None] + offsets.square()
        center, surround = (torch.exp(-squares / (2 * std**2)) for std in (1.0, 2.0))
        window = center / center.sum() - surround / surround.sum()
        self.register_buffer("window", (window / window.clamp(min=0).sum()).view(1, 1, 7, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = wide(x)
        planes = functional.pad(u.reshape(-1, 1, *u.shape[2:]), (3, 3, 3, 3), mode="replicate")
        with full_precision(x.device):
            contrast = functional.conv2d(planes, self.window.to(u.dtype)).reshape(u.shape)
        return torch.cat([functional.relu(contrast), functional.relu(-contrast)], 1).to(x.dtype)
