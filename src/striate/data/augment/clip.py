"""Augmentations of clips (B, C, T, H, W) uint8: when they begin, and motion as a mirror shows it."""

from __future__ import annotations

import torch

from striate.data.transfer import sent


def mirror_motion(x: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Motion to the right, the last channel but one, turned around in the clips that are (B,) `mirrored`.

    Bytes are 128 where nothing moves: 256 − byte is the other way, which no byte of motion leaves; 0 stays what it is.
    """
    out = x.clone()
    turned = sent(mirrored, x.device)[:, None, None, None]
    out[:, -2] = torch.where(turned, (256 - x[:, -2].to(torch.int16)).remainder(256).to(torch.uint8), x[:, -2])
    return out


def begin_elsewhere(x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Each clip begun (B,) shares of its frames earlier or later; the first or the last frame stands for what there is
    not."""
    count = x.shape[2]
    frames = (torch.arange(count) + torch.round(shares * count).long()[:, None]).clamp(0, count - 1)
    return torch.stack([one.index_select(1, sent(at, x.device)) for one, at in zip(x, frames, strict=True)])
