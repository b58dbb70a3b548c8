"""Whole batches of images and masks made smaller."""

from __future__ import annotations

import torch
from torch.nn import functional


def resize_images(x_BCHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images at (height, width) `size` pixels, bilinear and antialiased, so that every pixel counts; bytes stay bytes,
    rounded to nearest. Of that size already, they are returned as they are."""
    if tuple(x_BCHW.shape[-2:]) == size:
        return x_BCHW
    if x_BCHW.dtype == torch.uint8 and x_BCHW.device.type != "cpu":  # torch resizes bytes on the CPU alone
        return resize_images(x_BCHW.float(), size).round_().clamp_(0, 255).to(torch.uint8)
    return functional.interpolate(x_BCHW, size, mode="bilinear", antialias=True)


def resize_masks(masks_BHW: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Masks (B, H, W) of class numbers at (height, width) `size`: each pixel takes the class at its center."""
    return functional.interpolate(masks_BHW.unsqueeze(1), size, mode="nearest-exact").squeeze(1)
