"""Augmentations of clips (B, C, T, H, W) uint8: shifts in time, and the motion of mirrored clips."""

from __future__ import annotations

import torch

from striate.data.transfer import sent


def mirror_motion(x: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """The batch with motion to the right, the second to last channel, reversed in the clips that are (B,) `mirrored`.

    Bytes are 128 where nothing moves, so that 256 − byte is the opposite motion; 0, which is not a motion, is not
    changed.
    """
    out = x.clone()
    turned = sent(mirrored, x.device)[:, None, None, None]
    out[:, -2] = torch.where(turned, (256 - x[:, -2].to(torch.int16)).remainder(256).to(torch.uint8), x[:, -2])
    return out


def shift_frames(x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Each clip shifted in time by (B,) shares of its frames; the first or last frame is repeated where frames are
    missing."""
    count = x.shape[2]
    frames = (torch.arange(count) + torch.round(shares * count).long()[:, None]).clamp(0, count - 1)
    return torch.stack([one.index_select(1, sent(at, x.device)) for one, at in zip(x, frames, strict=True)])
