"""Batches of images with keypoints, and heatmaps that peak at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from striate.doctor.setup.batch import leaves, stacked

_CLEAR = 0.5
"""Share of the highest value of all heatmaps: a heatmap with a lower peak shows no keypoint."""
_LARGEST_SHARE, _SIGNED = 1.5, 0.05
"""The largest coordinate that is a share of the image's size, some outside of it; and the share of negative coordinates
from which on they lie between -1 and 1."""


@dataclass(frozen=True)
class Keypoints:
    """Images with keypoints."""

    pictures: torch.Tensor
    """(N, C, H, W)."""
    points: torch.Tensor
    """(N, K, 2) column and row."""
    maps: torch.Tensor | None
    """(N, K, h, w) heatmaps; None without any."""

    @property
    def scale(self) -> torch.Tensor:
        """(2,) image pixels for each heatmap pixel, horizontally and vertically."""
        assert self.maps is not None
        (height, width), (rows, columns) = self.pictures.shape[-2:], self.maps.shape[-2:]
        return torch.tensor([width / columns, height / rows])

    def in_pixels(self) -> Keypoints:
        """The same with points in pixels, where they are shares of the image's size, or lie between -1 and 1."""
        size = torch.tensor(self.pictures.shape[:-3:-1], dtype=torch.float32)
        if float(self.points.abs().max()) > _LARGEST_SHARE:
            return self
        signed = bool((self.points < 0).double().mean() > _SIGNED)
        return replace(self, points=((self.points + 1) / 2 if signed else self.points) * size)

    def peaks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, 2) column and row of each clear peak, and (M, 2) the corresponding keypoints."""
        assert self.maps is not None
        values, place = self.maps.flatten(2).max(2)
        clear = values > _CLEAR * values.max()
        columns = self.maps.shape[-1]
        return torch.stack([place % columns, place // columns], 2)[clear].float(), self.points[clear]


def keypoints_of(batches: Sequence[Any], *, flat: bool = False) -> Keypoints | None:
    """Images and keypoints of the first batches; None where batches have none, or several kinds. `flat`: targets
    (N, 2 K) are read as keypoints, too, in the order x, y, x, y."""
    found = [one for batch in batches[:8] if (one := _of_batch(batch, flat)) is not None]
    if not found or len({(one.points.shape[1:], one.pictures.shape[1:], one.maps is None) for one in found}) > 1:
        return None
    maps = [one.maps for one in found if one.maps is not None]
    pictures, points = (torch.cat(parts) for parts in zip(*((one.pictures, one.points) for one in found), strict=True))
    return Keypoints(pictures, points, torch.cat(maps) if maps else None)


def are_flat(target: torch.Tensor) -> bool:
    """Whether the target of a sample may be the columns and rows of four or more points, one after the other."""
    return target.ndim == 1 and target.numel() >= 8 and target.numel() % 2 == 0 and target.is_floating_point()


def _of_batch(batch: Any, flat: bool) -> Keypoints | None:
    kinds = (
        tensor for _, tensor in leaves(stacked(batch)) if tensor.is_floating_point() or tensor.dtype == torch.uint8
    )
    tensors = [tensor.detach().cpu().float() for tensor in kinds]
    points = [t for t in tensors if t.ndim == 3 and t.shape[2] in (2, 3) and t.shape[1] > 1]
    if flat and not points:
        points = [t.unflatten(1, (-1, 2)) for t in tensors if are_flat(t[0])]
    if len(points) != 1:
        return None
    grids = [t for t in tensors if t.ndim == 4 and len(t) == len(points[0])]
    maps = [t for t in grids if t.shape[1] == points[0].shape[1] and float(t.min()) >= 0]
    pictures = [t for t in grids if all(t is not other for other in maps)]
    if not pictures:  # the images have as many channels as there are keypoints
        pictures, maps = maps[:1], maps[1:]
    if len(pictures) != 1 or len(maps) > 1:
        return None
    return Keypoints(pictures[0], points[0][..., :2], maps[0] if maps else None)
