"""What instances add to a detector: features of fine positions, and of each object the weights that read them.

Tian et al., "Conditional convolutions for instance segmentation" (CondInst), ECCV 2020: a position that predicts a box
also predicts the weights of a small network, which tells the pixels of its object from all others, so that objects
which touch have masks of their own. Here that network sees the features under the box, and where in the box it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from striate.tasks.detect.head import BOX, CELL, Detector
from striate.tasks.instances.box_masks import SIDE, points_in, relative_places

FEATURES, HIDDEN = 8, 8
"""Channels that masks are read from, and of the layer between."""
_SIZES = (HIDDEN * (FEATURES + 2), HIDDEN, HIDDEN, 1)
WEIGHTS = sum(_SIZES)
"""Numbers that a position predicts for the mask of its object."""
_FINER = 2
"""Features lie so many times as dense as the positions of the finest map."""
_WIDTH, _CLOSE = 32, 8
"""Channels before the features, of the finest map and of the image itself."""


class InstanceDetector(Detector):
    """As `Detector`, with more in each row: images (N, C, H, W) to (N, P, K + 7 + WEIGHTS + 4 · FEATURES).

    Behind what a detector says lie the weights for the mask; and, in rows of the finest stride alone, the features of
    the four places that share the position.
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
    ) -> None:
        super().__init__(network, input_shape, classes, strides, typical, channels=channels)
        score = self.score
        del self.score
        self.weights = nn.Conv2d(channels, WEIGHTS, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, FEATURES * _FINER**2, 1),
        )
        # Borders lie where the image says it: what is as dense as the features sees it without a detour.
        self.close = nn.Sequential(
            nn.Conv2d(input_shape[0], _CLOSE, 3, padding=1, bias=False),
            nn.BatchNorm2d(_CLOSE),
            nn.ReLU(),
            nn.Conv2d(_CLOSE, FEATURES, 3, padding=1),
        )
        self.score = score  # last again: it is new where weights are of other classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One row for each position, those of the finest stride first, line by line."""
        rows = []
        for level, given in enumerate(self.pyramid(x)):
            kind, box = self.read(given, level)
            parts = [self.rows(self.score(kind), self.edges(box), level, x.shape), _flat(self.weights(box))]
            count = FEATURES * _FINER**2
            if level == 0:
                parts.append(_flat(self._features(x, given)))
            else:
                parts.append(parts[0].new_zeros(len(x), parts[0].shape[1], count))
            rows.append(torch.cat(parts, 2))
        return torch.cat(rows, 1)

    def _features(self, x: torch.Tensor, finest: torch.Tensor) -> torch.Tensor:
        """(N, 4 · FEATURES, h, w)"""
        size = (_FINER * finest.shape[2], _FINER * finest.shape[3])
        if x.shape[2:] != size:
            x = functional.interpolate(x, size, mode="bilinear")
        features: torch.Tensor = self.fine(finest) + functional.pixel_unshuffle(self.close(x), _FINER)
        return features


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """(N, C, h, w) as rows of positions (N, h · w, C) float32."""
    return maps.float().flatten(2).transpose(1, 2)


class Parts(NamedTuple):
    """What the rows of an `InstanceDetector` hold: those of a detector (N, P, K + 7), the `weights` (N, P, WEIGHTS) of
    masks, and the `features` (N, FEATURES, h, w) that they read."""

    rows: torch.Tensor
    weights: torch.Tensor
    features: torch.Tensor


def parts_of(outputs: torch.Tensor, count: int) -> Parts:
    """The parts of outputs for `count` classes."""
    end = count + BOX + CELL
    rows, weights = outputs[..., :end], outputs[..., end : end + WEIGHTS]
    cells = outputs[0, :, end - 3 : end]
    # One at least, so that outputs that are NaN are refused where all such are.
    finest = max(1, int((cells[:, 2] == cells[0, 2]).sum()))
    width = max(1, int((cells[:finest, 1] == cells[0, 1]).sum()))
    features = outputs[:, :finest, end + WEIGHTS :].transpose(1, 2).unflatten(2, (finest // width, width))
    return Parts(rows, weights, functional.pixel_shuffle(features, _FINER))


def mask_logits(
    features: torch.Tensor, weights: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """(B, n, SIDE, SIDE) of n objects an image: `features` (B, FEATURES, h, w) of images of (height, width) `size`,
    read with `weights` (B, n, WEIGHTS) under `boxes` (B, n, 4)."""
    images, count = boxes.shape[:2]
    points = points_in(boxes.reshape(-1, 4)).view(images, count * SIDE, SIDE, 2)
    points = 2 * points / points.new_tensor([size[1], size[0]]) - 1
    seen = functional.grid_sample(features.float(), points, padding_mode="border", align_corners=False)
    seen = seen.view(images, FEATURES, count, SIDE * SIDE).transpose(1, 2).flatten(0, 1)
    steps = relative_places(boxes.device)
    places = torch.stack([steps.expand(SIDE, SIDE), steps[:, None].expand(SIDE, SIDE)]).flatten(1)
    seen = torch.cat([seen, places.expand(len(seen), -1, -1)], 1)
    first, bias, second, last = weights.float().flatten(0, 1).split(_SIZES, 1)
    hidden = functional.relu(torch.baddbmm(bias[..., None], first.view(-1, HIDDEN, FEATURES + 2), seen))
    logits = torch.baddbmm(last[..., None], second[:, None], hidden)
    return logits.view(images, count, SIDE, SIDE)
