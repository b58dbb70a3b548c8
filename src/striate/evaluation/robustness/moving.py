"""Images that are moved: shifted, turned, scaled, bent, seen from the side. What comes in from outside is the edge,
repeated; but for shifts, values are interpolated (bilinear) and rounded to bytes."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from striate.data.warp import Warp
from striate.evaluation.robustness.draws import Draws

_DISTANCE = 2.0
"""Of the camera from the tilted picture, in its longer sides."""
_CONTROL = 5
"""Points of the elastic net along each side."""


def shift(images: torch.Tensor, pixels: float, draws: Draws) -> torch.Tensor:
    """By whole pixels up, down, left or right: every value is copied."""
    return shifted(pixels, draws).apply(images)


def shifted(pixels: float, draws: Draws) -> Warp:
    """The movement of `shift`."""
    ways = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
    chosen = ways[torch.from_numpy((draws.uniform(1)[:, 0] * 4).astype("int64"))]
    return Warp(torch.zeros(len(chosen), dtype=torch.bool), int(pixels) * chosen)


def rotate(images: torch.Tensor, degrees: float, draws: Draws) -> torch.Tensor:
    """About the center, to the left or to the right."""
    angle = math.radians(degrees) * (1 - 2 * (torch.from_numpy(draws.uniform(1)[:, 0]) < 0.5).float())
    x, y = _from_center(images)
    cos, sin = (f(angle).view(-1, 1, 1) for f in (torch.cos, torch.sin))
    return _sampled(images, cos * x + sin * y, cos * y - sin * x)


def scale(images: torch.Tensor, factor: float, draws: Draws) -> torch.Tensor:
    """About the center: larger above 1, smaller below."""
    del draws
    x, y = _from_center(images)
    every = torch.ones(len(images), 1, 1)
    return _sampled(images, every * x / factor, every * y / factor)


def deform(images: torch.Tensor, percent: float, draws: Draws) -> torch.Tensor:
    """Elastic: pulled along a smooth random field, whose mean square length is the strength in percent of the shorter
    side. A net of 5 × 5 points is drawn and interpolated (bicubic); in the manner of P. Simard, D. Steinkraus and
    J. Platt, "Best practices for convolutional neural networks", 2003."""
    height, width = images.shape[2:]
    net = draws.normal(2 * _CONTROL**2).view(-1, 2, _CONTROL, _CONTROL)
    field = functional.interpolate(net, (height, width), mode="bicubic", align_corners=True)
    length = field.square().sum(1).mean((1, 2)).sqrt().view(-1, 1, 1, 1)
    field = field / length.clamp(min=1e-6) * (percent / 100 * min(height, width))
    x, y = _from_center(images)
    return _sampled(images, x + field[:, 0], y + field[:, 1])


def tilt(images: torch.Tensor, degrees: float, draws: Draws) -> torch.Tensor:
    """A homography: the picture, as a flat card, turned by the angle about a random line through its center, seen by a
    camera two sides away."""
    axis = math.tau * torch.from_numpy(draws.uniform(1)[:, 0]).float().view(-1, 1, 1)
    x, y = _from_center(images)
    along, across = axis.cos() * x + axis.sin() * y, axis.cos() * y - axis.sin() * x
    distance = _DISTANCE * max(images.shape[2:])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Where the ray through a pixel meets the card, along the line that it turns about and across it.
    across = across * distance / (distance * cos - across * sin)
    along = along * (distance + across * sin) / distance
    return _sampled(images, axis.cos() * along - axis.sin() * across, axis.sin() * along + axis.cos() * across)


def _from_center(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, H, W) right and (1, H, W) down from the center, in pixels."""
    height, width = images.shape[2:]
    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    return x[None], y[None]


def _sampled(images: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Each pixel from the place (B, H, W) right and down from the center."""
    sides = [max(1, side - 1) / 2 for side in images.shape[2:]]
    grid = torch.stack([x / sides[1], y / sides[0]], dim=3).float()
    moved = functional.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.round_().clamp_(0, 255).to(torch.uint8)
