"""How disorderly things move: the entropy of the directions of optical flow, as a layer without parameters."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ShapeError

_LEAST = 1e-3  # mean motion of a frame, in units of the input, below which the frame counts as still
_CELLS = 4


class MotionEntropy(nn.Module):
    """(N, 2, T, H, W) motion to the right and down, to (N, 2, T, 1, 1): two entropies of each frame, in nats.

    Each is the entropy of a histogram over `directions`, evenly spaced and starting at the right: each pixel adds the
    length of its motion, divided between the two nearest directions (Chaudhry et al., "Histograms of oriented optical
    flow and Binet–Cauchy kernels on nonlinear dynamical systems for the recognition of human actions", CVPR 2009). The
    first is that of the full frame: 0 if everything moves in one direction, as with a turning camera. The second is the
    mean over 4×4 parts of the frame, weighted by their motion. Neither depends on size, speed or direction of the
    moving objects."""

    def __init__(self, directions: int = 16) -> None:
        super().__init__()
        self.directions = directions

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 5 or x.shape[1] != 2:
            expected = "(N, 2, T, H, W), motion to the right and down"
            raise ShapeError("input of MotionEntropy", f"shape {tuple(x.shape)}", expected, "--data.view flow")
        motion = x.float()
        speed = motion.square().sum(1).clamp(min=1e-12).sqrt()
        still = speed <= 1e-6
        right = torch.where(still, torch.ones_like(speed), motion[:, 0])  # a still pixel has no angle, so no gradient
        turns = torch.atan2(motion[:, 1].masked_fill(still, 0), right) * (self.directions / (2 * math.pi))
        sides = (min(_CELLS, x.shape[3]), min(_CELLS, x.shape[4]))
        parts = []
        for number in range(self.directions):
            apart = torch.remainder(turns - number + self.directions / 2, self.directions) - self.directions / 2
            toward = speed * (1 - apart.abs()).clamp(min=0)
            parts.append(functional.adaptive_avg_pool2d(toward, sides))  # 2-D, as ONNX has no 3-D form
        cells = torch.stack(parts, 1)
        moved = cells.sum(1, keepdim=True)
        local = (_entropy(cells) * moved).sum((3, 4), keepdim=True) / (moved.sum((3, 4), keepdim=True) + _LEAST)
        return torch.cat([_entropy(cells.mean((3, 4), keepdim=True)), local], 1).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.directions} directions"


def _entropy(histogram: torch.Tensor) -> torch.Tensor:
    shares = histogram / (histogram.sum(1, keepdim=True) + _LEAST)
    return -(shares * (shares + 1e-6).log()).sum(1, keepdim=True)
