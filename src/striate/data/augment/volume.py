"""Augmentation of volumes: mirroring, shifts, rotations, patches, and changes of intensity.

A batch is (B, C, D, H, W) float32; masks (B, 1, D, H, W) uint8 are moved by the same `VolumeWarp`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from striate.data.annotations.masks import IGNORED
from striate.data.augment.pixels import Change
from striate.data.config import AugmentConfig
from striate.data.transfer import sent
from striate.wording import percent, several

COLUMNS = (
    *("flip", "vertical_flip", "depth_flip", "deep", "down", "right", "about_depth", "about_height", "about_width"),
    *("scale", "front", "top", "left", "brightness", "contrast", "foreground", "class", "voxel"),
)
"""Names of the random numbers that each sample needs."""
_FLIPS = {"flip": 4, "vertical_flip": 3, "depth_flip": 2}


@dataclass(frozen=True)
class VolumeWarp:
    """The geometric augmentation of a batch of B volumes.

    In this order: the patch is cut out, rotated and scaled, mirrored, and shifted. Axes are depth, height and width.
    Only `linear` interpolates, with the nearest label for masks; the others copy values.
    """

    mirror: torch.Tensor
    """(B, 3) bool: mirrored along each axis."""
    shift: torch.Tensor
    """(B, 3) int64 voxels along each axis."""
    linear: torch.Tensor | None = None
    """(B, 3, 3): maps a place in the result to a place in the volume, both in voxels from the center; None: no
    rotation, no scaling."""
    corner: torch.Tensor | None = None
    """(B, 3) int64: the first voxel of each patch; None: no patches."""
    size: tuple[int, int, int] | None = None
    """Sides of the patches in voxels."""

    def apply(self, x: torch.Tensor, *, nearest: bool = False, fill: float | None = None) -> torch.Tensor:
        """A new batch. Voxels outside the volume are `fill`, or the nearest voxel where `fill` is None."""
        if self.corner is not None and self.size is not None:
            x = _patches(x, self.corner, self.size)
        if self.linear is not None:
            x = _turned(x, self.linear, nearest, fill)
        out = []
        for one, mirror, shift in zip(x, self.mirror.tolist(), self.shift.tolist(), strict=True):
            axes = [axis for axis, mirrored in enumerate(mirror, 1) if mirrored]
            out.append(_shifted(one.flip(axes) if axes else one, shift, fill))
        return torch.stack(out)


def _patches(x: torch.Tensor, corner: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    deep, tall, wide = size
    return torch.stack(
        [
            one[:, front : front + deep, top : top + tall, left : left + wide]
            for one, (front, top, left) in zip(x, corner.tolist(), strict=True)
        ]
    )


def _shifted(one: torch.Tensor, shift: list[int], fill: float | None) -> torch.Tensor:
    """(C, D, H, W) moved by whole voxels."""
    for axis, places in enumerate(shift, 1):
        if not places:
            continue
        length = one.shape[axis]
        from_ = torch.arange(length) - places
        moved = one.index_select(axis, from_.clamp(0, length - 1).to(one.device))
        if fill is not None:
            shape = [1] * one.ndim
            shape[axis] = length
            outside = ((from_ < 0) | (from_ >= length)).view(shape).to(one.device)
            moved = moved.masked_fill(outside, fill)
        one = moved
    return one


def _turned(x: torch.Tensor, linear: torch.Tensor, nearest: bool, fill: float | None) -> torch.Tensor:
    sides = torch.tensor(x.shape[2:], dtype=torch.float64)
    # grid_sample counts from −1 to 1 along each axis, the last axis first.
    grid_linear = (linear * sides[None, None, :] / sides[None, :, None]).flip(1, 2)
    theta = torch.cat([grid_linear, torch.zeros(len(x), 3, 1, dtype=torch.float64)], dim=2).float()
    grid = functional.affine_grid(sent(theta, x.device), list(x.shape), align_corners=False)
    values = x.float() if fill is None else x.float() - fill  # outside is 0
    out = functional.grid_sample(
        values,
        grid,
        mode="nearest" if nearest else "bilinear",
        padding_mode="border" if fill is None else "zeros",
        align_corners=False,
    )
    out = out if fill is None else out + fill
    return out if x.is_floating_point() else out.round().to(x.dtype)


def draw_volume(
    config: AugmentConfig, u: Mapping[str, torch.Tensor], shape: tuple[int, ...], masks: torch.Tensor | None = None
) -> tuple[VolumeWarp | None, tuple[Change, ...]]:
    """The warp, and the changes of intensity, of samples of `shape` (C, D, H, W).

    `u`: (B,) uniform numbers by the names in `COLUMNS`. `masks`: (B, D, H, W) uint8 class numbers, from which patches
    with a foreground class are chosen."""
    count = len(u["flip"])
    mirror = torch.zeros(count, 3, dtype=torch.bool)
    for field, axis in _FLIPS.items():
        if getattr(config, field):
            mirror[:, axis - 2] = u[field] < 0.5
    shift = torch.zeros(count, 3, dtype=torch.int64)
    if config.shift:
        drawn = torch.stack([u["deep"], u["down"], u["right"]], dim=1)
        shift = torch.floor(drawn * (2 * config.shift + 1)).long() - config.shift
    linear = _linear(config, u) if config.rotate or config.scale else None
    corner, size = None, None
    if config.window and any(side > config.window for side in shape[1:]):
        deep, tall, wide = (min(config.window, side) for side in shape[1:])
        size = (deep, tall, wide)
        room = torch.tensor(shape[1:], dtype=torch.float64) - torch.tensor(size, dtype=torch.float64) + 1
        corner = torch.floor(torch.stack([u["front"], u["top"], u["left"]], dim=1) * room).long()
        if config.foreground and masks is not None:
            corner = _on_foreground(corner, size, u, config.foreground, masks)
    moves = bool(mirror.any()) or config.shift or linear is not None or corner is not None
    warp = VolumeWarp(mirror, shift, linear, corner, size) if moves else None
    return warp, (_intensity(config.color, u),) if config.color else ()


def _on_foreground(
    corner: torch.Tensor, size: tuple[int, int, int], u: Mapping[str, torch.Tensor], share: float, masks: torch.Tensor
) -> torch.Tensor:
    """`corner`, with a `share` of the patches moved to a random voxel of a foreground class, within the volume.

    Each class of the sample, except the first and unlabeled voxels, is equally likely, however small (Isensee et al.,
    "nnU-Net", 2021, whose share is a third)."""
    corner = corner.clone()
    sides = torch.tensor(masks.shape[1:])
    for k in (u["foreground"] < share).nonzero()[:, 0].tolist():
        labels = masks[k].flatten().cpu()
        present = torch.bincount(labels, minlength=256)[1:IGNORED].nonzero()[:, 0] + 1
        if not len(present):
            continue
        places = (labels == present[int(u["class"][k] * len(present))]).nonzero()[:, 0]
        place = int(places[int(u["voxel"][k] * len(places))])
        at = torch.tensor([int(index) for index in np.unravel_index(place, tuple(masks.shape[1:]))])
        patch = torch.tensor(size)
        corner[k] = torch.minimum((at - patch // 2).clamp(min=0), sides - patch)
    return corner


def _linear(config: AugmentConfig, u: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(B, 3, 3) float64 on (depth, height, width): scaling, then a rotation about each axis."""
    out = torch.eye(3, dtype=torch.float64).expand(len(u["flip"]), 3, 3).clone()
    if config.rotate:
        for name, (one, other) in {"about_depth": (1, 2), "about_height": (0, 2), "about_width": (0, 1)}.items():
            angle = (2 * u[name] - 1) * math.radians(config.rotate)
            turn = torch.eye(3, dtype=torch.float64).expand_as(out).clone()
            turn[:, one, one] = turn[:, other, other] = torch.cos(angle)
            turn[:, one, other], turn[:, other, one] = -torch.sin(angle), torch.sin(angle)
            out = turn @ out
    factor = 1 + (2 * u["scale"] - 1) * (config.scale or 0)
    return out / factor[:, None, None]


def _intensity(strength: float, u: Mapping[str, torch.Tensor]) -> Change:
    """Contrast by a factor of 1 ± `strength` about the mean of each volume, brightness by ± `strength` of its standard
    deviation."""

    def change(x: torch.Tensor) -> torch.Tensor:
        each = (len(x), *(1,) * (x.ndim - 1))
        contrast, brightness = (
            sent(((2 * u[name] - 1) * strength).float(), x.device).view(each) for name in ("contrast", "brightness")
        )
        std, mean = torch.std_mean(x, dim=tuple(range(1, x.ndim)), correction=0, keepdim=True)
        return torch.addcmul(x, x - mean, contrast) + brightness * std

    return change


def describe_volume_augmentation(config: AugmentConfig) -> tuple[str, ...]:
    """A few words for each option that is on, in the order in which they are applied."""
    flips = {"flip": "left and right", "vertical_flip": "up and down", "depth_flip": "front and back of the stack"}
    mirrored = [words for field, words in flips.items() if getattr(config, field)]
    words = {
        "window": f"patches of at most {config.window} voxels per side"
        + (f", {percent(config.foreground, 0)} of them around a foreground class" if config.foreground else ""),
        "rotate": f"rotations up to {config.rotate or 0:g}° about each axis",
        "scale": f"sizes ± {percent(config.scale or 0, 0)}",
        "shift": f"shifts up to {several(config.shift or 0, 'voxel')}",
        "color": f"intensity ± {percent(config.color or 0, 0)}",
        "noise": f"noise up to {config.noise or 0:g} standard deviations",
        "mixup": "pairs blended (mixup)",
    }
    others = [text for name, text in words.items() if getattr(config, name)]
    return (*(["mirroring of " + ", ".join(mirrored)] if mirrored else []), *others)
