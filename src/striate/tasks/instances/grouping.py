"""Groups pixels to objects by the center that the network predicts for each pixel.

For each pixel, the network predicts the probability of each class and the center of the pixel's object; pixels with the
same center are one object (Kendall, Gal and Cipolla, "Multi-task learning using uncertainty", CVPR 2018; Cheng et al.,
"Panoptic-DeepLab", CVPR 2020). Predictions are followed step by step from pixel to pixel, which corrects bad ones
(Stringer et al., "Cellpose", Nature Methods 2021).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

OFFSET = 2
"""Outputs of a pixel besides a score per class: the distance of its center to the right, and down."""
LIKELY = 0.4
"""The probability from which a pixel belongs to an object; below 0.5, since it is lower at the edges of dim objects."""
STEPS = 12
"""Number of steps of a pixel, each to the center that is predicted at its last position."""
FEWEST = 3
"""Number of pixels that must meet within 3 × 3 pixels for a center."""
SMALLEST = 0.05
"""As a share of the area of a typical object: smaller groups are no objects."""
NEAR = 0.5
"""Two centers belong to one object if they are nearer than this share of the radius of both objects merged."""


class Objects(NamedTuple):
    """What targets (N, H, W) hold for each pixel."""

    kind: torch.Tensor
    """(N, H, W) class number of its object."""
    there: torch.Tensor
    """(N, H, W) whether it belongs to an object."""
    crowd: torch.Tensor
    """(N, H, W) whether it belongs to a crowd."""
    center: torch.Tensor
    """(N, 2, H, W) x and y of the object's center in pixels."""
    area: torch.Tensor
    """(N, H, W) area of the object in pixels."""
    each: torch.Tensor
    """(N,) number of objects in each image."""


def objects_in(maps: torch.Tensor, classes: int) -> Objects:
    """The objects in targets (N, H, W) with this number of classes."""
    values = maps.long()
    seen, crowd, kind = values > 0, (values > 0) & ((values - 1) % 2 == 1), (values - 1).clamp(min=0) // 2 % classes
    there = seen & ~crowd
    number = torch.where(there, (values - 1) // (2 * classes) + 1, 0)
    most = int(number.max()) + 1
    place = (torch.arange(len(maps), device=maps.device)[:, None, None] * most + number).flatten()
    height, width = maps.shape[1:]
    area = torch.bincount(place, minlength=len(maps) * most).float()
    middles = []
    for axis, side in ((2, width), (1, height)):
        along = torch.arange(side, device=maps.device, dtype=torch.float32) + 0.5
        along = along.view(*(-1 if k == axis else 1 for k in range(3))).expand(maps.shape).flatten()
        total = torch.zeros_like(area).index_add_(0, place, along)
        middles.append((total / area.clamp(min=1))[place].view(maps.shape))
    each = (area.view(len(maps), most)[:, 1:] > 0).sum(1)
    return Objects(kind, there, crowd, torch.stack(middles, 1), area[place].view(maps.shape), each)


def places(height: int, width: int, device: torch.device) -> torch.Tensor:
    """(2, H, W) x and y of the centers of pixels."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32) + 0.5,
        torch.arange(width, device=device, dtype=torch.float32) + 0.5,
        indexing="ij",
    )
    return torch.stack([x, y])


def grouped(likely: NDArray[np.float32], offset: torch.Tensor, typical: float) -> NDArray[np.int32]:
    """(H, W) the number of each pixel's object, from 1; 0 for none.

    `likely`: (H, W) probability that the pixel belongs to any object; `offset`: (2, H, W) offset to its center in
    pixels; `typical`: half the side of an object.
    """
    height, width = likely.shape
    numbers = np.zeros((height, width), np.int32)
    inside = likely >= LIKELY
    if not inside.any():
        return numbers
    ends = _followed(offset, inside)
    column, row = (np.clip(ends[k].astype(np.int64), 0, side - 1) for k, side in enumerate((width, height)))
    met = np.bincount(row * width + column, minlength=height * width).reshape(height, width)
    from scipy import ndimage  # a fifth of a second to load

    centers, count = ndimage.label(_around(met) >= FEWEST, np.ones((3, 3)))
    if not count:
        return numbers
    # Pixels that end at no center go to the nearest one.
    nearest = ndimage.distance_transform_edt(centers == 0, return_distances=False, return_indices=True)
    own = centers[tuple(nearest)][row, column]
    own = _merged(own, ends)[own]
    large = np.bincount(own) >= SMALLEST * (2 * typical) ** 2
    kept = np.cumsum(large) * large
    numbers[inside] = kept[own]
    return numbers


def agreement(numbers: NDArray[np.int32], offset: torch.Tensor) -> NDArray[np.float64]:
    """(D,) from 0 to 1, for each object in `numbers` (H, W): how far its pixels agree on its center, by their `offset`
    (2, H, W).

    It is exp(−(s + d)): s is the root mean square distance of the predicted centers from their mean, d the distance of
    that mean from the center of the pixels, both in radii of a disk of the same area. Two merged objects, or a part of
    one, may have high probabilities, but their pixels disagree.
    """
    height, width = numbers.shape
    own = numbers.ravel()
    area = np.maximum(np.bincount(own), 1)
    here = places(height, width, offset.device)
    named = (here + offset).flatten(1).cpu().numpy().astype(np.float64)
    middle = here.flatten(1).cpu().numpy().astype(np.float64)
    means, middles = (np.stack([np.bincount(own, each) / area for each in one]) for one in (named, middle))
    square = np.bincount(own, ((named - means[:, own]) ** 2).sum(0)) / area
    wrong: NDArray[np.float64] = (np.sqrt(square) + np.hypot(*(means - middles))) / np.sqrt(area / np.pi)
    return np.exp(-wrong[1:])


def shares_inside(likely: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities, rescaled to shares of an object so that `LIKELY` becomes one half."""
    shares: NDArray[np.float32] = np.minimum(likely * np.float32(0.5 / LIKELY), 1)
    return shares


def _followed(offset: torch.Tensor, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(2, n) final positions of the pixels `inside` (H, W)."""
    height, width = inside.shape
    chosen = torch.from_numpy(inside).to(offset.device)
    start = places(height, width, offset.device)[:, chosen]
    at, scale = start + offset[:, chosen], start.new_tensor([[2 / width], [2 / height]])
    for _ in range(STEPS):
        grid = (at * scale - 1).T[None, None]
        at = at + functional.grid_sample(offset[None], grid, padding_mode="border", align_corners=False)[0, :, 0]
    found: NDArray[np.float32] = at.cpu().numpy()
    return found


def _around(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(H, W) sums over 3 × 3 pixels."""
    padded = np.pad(counts, 1)
    lines = padded[:-2] + padded[1:-1] + padded[2:]
    total: NDArray[np.int64] = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:]
    return total


def _merged(own: NDArray[np.int64], ends: NDArray[np.float32]) -> NDArray[np.int64]:
    """The number of the object that each group (1, 2, …) belongs to, from the groups (n,) of pixels and their final
    positions."""
    area = np.bincount(own).astype(np.float64)
    middle = np.stack([np.bincount(own, ends[k]) for k in range(2)], 1) / np.maximum(area, 1)[:, None]
    becomes = np.arange(len(area))
    order = np.argsort(-area)
    order = order[area[order] > 0]
    taken: list[int] = []
    for number in order.tolist():  # larger groups come first and absorb smaller ones
        if taken:
            apart = np.hypot(*(middle[taken] - middle[number]).T)
            radius = np.sqrt((area[taken] + area[number]) / np.pi)
            best = int(np.argmin(apart / radius))
            if apart[best] < NEAR * radius[best]:
                becomes[number] = taken[best]
                continue
        taken.append(number)
    return becomes
