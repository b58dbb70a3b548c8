"""The head of a detector: a pyramid of the network's maps, and convolutions that predict scores and a box at each
position.

Tian et al., "FCOS: fully convolutional one-stage object detection", ICCV 2019: there are no anchors, and a position
predicts the distances to the four edges. One score per class is both probability and quality (Li et al., "Generalized
focal loss", NeurIPS 2020). Kernels are shared between strides, normalizations are not (Lyu et al., "RTMDet", 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from striate.models.feature_pyramid import FeaturePyramid
from striate.tasks.detect.rotated import COUNT

BOX, CELL = 4, 3
"""Numbers of an upright box; and of a position: its x, y and stride."""
_PRIOR = 0.01
"""The score of all positions before the first step, low since most see no object (Lin et al., "Focal loss", 2017)."""
_LARGEST = 7.0  # logarithm of the largest distance in strides, about a thousand
_LONGEST = 3.0  # half the logarithm of the largest ratio of length to width


class Detector(nn.Module):
    """A network with a detection head: from images (N, C, H, W) to (N, P, K + 7), a row for each position of all
    strides.

    A row has K logits of the classes; left, top, right and bottom edge of a box; x, y and stride of the position; all
    in pixels of the input. `typical`: half the side of a box in pixels, which all positions predict before the first
    step. `rotated`: (N, P, K + 8), with the numbers of an ellipse instead of edges, as in `detect.rotated`.
    """

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, ...],
        classes: int,
        strides: Sequence[float],
        typical: float,
        *,
        channels: int = 64,
        depth: int = 2,
        rotated: bool = False,
    ) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(network, input_shape, strides, channels)
        count = len(self.pyramid.strides)
        self.for_class = nn.ModuleList(_Shared(channels, count) for _ in range(depth))
        self.for_box = nn.ModuleList(_Shared(channels, count) for _ in range(depth))
        self.rotated = rotated
        self.edges = nn.Conv2d(channels, COUNT if rotated else 4, 3, padding=1)
        # Last, since fine-tuning replaces the last layer for other classes.
        self.score = nn.Conv2d(channels, classes, 3, padding=1)
        for layer, start in ((self.edges, 0.0), (self.score, -math.log((1 - _PRIOR) / _PRIOR))):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, start)
        self.size = nn.Parameter(torch.tensor([math.log(typical / stride) for stride in self.pyramid.strides]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A row for each position, those of the finest stride first, line by line."""
        rows = []
        for level, given in enumerate(self.pyramid(x)):
            kind, box = self.read(given, level)
            rows.append(self.rows(self.score(kind), self.edges(box), level, x.shape))
        return torch.cat(rows, 1)

    def read(self, given: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs of the two stacks of layers, for classes and for boxes, on a map of the pyramid."""
        kind = box = given
        for one, other in zip(self.for_class, self.for_box, strict=True):
            kind, box = one(kind, level), other(box, level)
        return kind, box

    def rows(self, score: torch.Tensor, edges: torch.Tensor, level: int, shape: torch.Size) -> torch.Tensor:
        """(N, positions, K + 7) of one map, always in float32: bfloat16 cannot represent odd pixels beyond 256."""
        height, width = edges.shape[2:]
        down, right = shape[2] / height, shape[3] / width
        y = (torch.arange(height, device=edges.device, dtype=torch.float32) + 0.5) * down
        x = (torch.arange(width, device=edges.device, dtype=torch.float32) + 0.5) * right
        stride = math.sqrt(down * right)
        at_y, at_x = torch.meshgrid(y, x, indexing="ij")
        cells = torch.stack([at_x, at_y, torch.full_like(at_x, stride)], -1)
        cells = cells.view(1, -1, 3).expand(edges.shape[0], -1, -1)
        logits, centers = score.float().flatten(2).transpose(1, 2), cells[..., :2]
        given = edges.float().flatten(2).transpose(1, 2)
        if self.rotated:
            size = (given[..., 2:3] + self.size[level].float()).clamp(max=_LARGEST) + math.log(stride)
            boxes = [centers + stride * given[..., :2], size, given[..., 3:].clamp(-_LONGEST, _LONGEST)]
            return torch.cat([logits, *boxes, cells], 2)
        reach = stride * (given + self.size[level].float()).clamp(max=_LARGEST).exp()
        return torch.cat([logits, centers - reach[..., :2], centers + reach[..., 2:], cells], 2)


def parts_of(
    outputs: torch.Tensor, count: int, *, rotated: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The logits of `count` classes, the boxes and the positions in a detector's outputs."""
    end = count + (COUNT if rotated else BOX)
    return outputs[..., :count], outputs[..., count:end], outputs[..., end : end + CELL]


class _Shared(nn.Module):
    """A convolution for all strides, with a normalization for each, and ReLU."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(levels))
        self.act = nn.ReLU()
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor, level: int) -> torch.Tensor:
        out: torch.Tensor = self.act(self.norms[level](self.conv(x)))
        return out
