"""Heads for the pyramid of a network: a heatmap for each point, or its coordinates."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from striate.models.pyramid import Pyramid, as_pyramid

WIDTH = 64
"""Channels of the merged maps."""
CELLS, SHARE = 32, 4
"""Smallest number of cells of heatmaps along the longer side of the input; and pixels per cell for larger inputs."""
_GRID = 4
"""Number of cells along each side that the coarsest map is pooled to before coordinates are predicted."""


class Heatmaps(nn.Module):
    """Logits (N, K, H, W) of the position of each point, on the grid of the finest map: coarser maps are upsampled and
    added from the top down, as in Lin et al., "Feature pyramid networks for object detection", 2017."""

    def __init__(self, channels: tuple[int, ...], points: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, WIDTH, 1) for count in channels)
        self.merge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
            for _ in channels
        )
        self.out = nn.Conv2d(WIDTH, points, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """The outputs from maps, fine to coarse."""
        whole = None
        for place in range(len(maps) - 1, -1, -1):
            own = self.lateral[place](maps[place])
            if whole is not None:
                own = own + functional.interpolate(whole, own.shape[2:], mode="nearest")
            whole = self.merge[place](own)
        return self.out(whole)  # type: ignore[no-any-return]


class Coordinates(nn.Module):
    """(N, 3 K) outputs from the coarsest map: right, down and the logarithm of the expected error of each point."""

    def __init__(self, channels: tuple[int, ...], points: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(channels[-1], WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(_GRID)
        )
        self.out = nn.Linear(WIDTH * _GRID**2, 3 * points)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """The outputs from maps, fine to coarse."""
        return self.out(self.reduce(maps[-1]).flatten(1))  # type: ignore[no-any-return]


class KeypointNetwork(nn.Module):
    """A network with a pyramid and one of these heads."""

    def __init__(self, pyramid: Pyramid, head: nn.Module) -> None:
        super().__init__()
        self.pyramid, self.head = pyramid, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs for a batch (N, C, H, W)."""
        return self.head(self.pyramid(x))  # type: ignore[no-any-return]


def with_head(body: nn.Module, input_shape: tuple[int, ...], points: int, head: str) -> KeypointNetwork:
    """`body` for images of `input_shape` (C, H, W), with one of the heads. Raises ModelError where `body` has no
    maps."""
    side = max(input_shape[1:])
    pyramid = as_pyramid(body, input_shape, max(CELLS, side // SHARE))
    channels = tuple(level.channels for level in pyramid.levels)
    made = Coordinates(channels, points) if head == "regress" else Heatmaps(channels, points)
    like = next(pyramid.parameters(), torch.empty(0))
    return KeypointNetwork(pyramid, made.to(like.device))
