"""A square of each image blanked, so that no single part of an object decides (DeVries and Taylor 2017)."""

from __future__ import annotations

import torch

from striate.data.transfer import sent


def cut_out(x_BCHW: torch.Tensor, center: torch.Tensor, share: float) -> torch.Tensor:
    """The batch (uint8) with a square in each image filled with that image's mean color.

    `center`: (B, 2) uniform in [0, 1), down and right: every pixel is the center equally often, so that squares reach
    over the edge, as published. The side is `share` of the shorter side of the image, at least one pixel.
    """
    height, width = x_BCHW.shape[-2:]
    side = max(1, round(share * min(height, width)))
    center = sent(center, x_BCHW.device)
    inside = [_span(center[:, k] * length, side, length) for k, length in enumerate((height, width))]
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    mean = x_BCHW.float().mean((2, 3), keepdim=True).round_().to(x_BCHW.dtype)
    return torch.where(square, mean, x_BCHW)


def _span(center: torch.Tensor, side: int, length: int) -> torch.Tensor:
    """(B, length) bool: `side` pixels around the pixel that holds `center`, as far as they are there."""
    first = center.floor() - side // 2
    places = torch.arange(length, device=center.device)
    return (places >= first[:, None]) & (places < first[:, None] + side)
