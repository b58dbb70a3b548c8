"""Batches of images with keypoints, and heatmaps that peak at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from striate.doctor.setup.batch import leaves, stacked

_CLEAR = 0.5
"""Share of the highest value of all heatmaps: a heatmap with a lower peak shows no keypoint."""


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

    def peaks(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, 2) column and row of each clear peak, and (M, 2) the corresponding keypoints."""
        assert self.maps is not None
        values, place = self.maps.flatten(2).max(2)
        clear = values > _CLEAR * values.max()
        columns = self.maps.shape[-1]
        return torch.stack([place % columns, place // columns], 2)[clear].float(), self.points[clear]


def keypoints_of(batches: Sequence[Any]) -> Keypoints | None:
    """Images and keypoints of the first batches; None where batches have none, or several kinds."""
    found = [one for batch in batches[:8] if (one := _of_batch(batch)) is not None]
    if not found or len({(one.points.shape[1:], one.pictures.shape[1:], one.maps is None) for one in found}) > 1:
        return None
    maps = [one.maps for one in found if one.maps is not None]
    pictures, points = (torch.cat(parts) for parts in zip(*((one.pictures, one.points) for one in found), strict=True))
    return Keypoints(pictures, points, torch.cat(maps) if maps else None)


def _of_batch(batch: Any) -> Keypoints | None:
    kinds = (
        tensor for _, tensor in leaves(stacked(batch)) if tensor.is_floating_point() or tensor.dtype == torch.uint8
    )
    tensors = [tensor.detach().cpu().float() for tensor in kinds]
    points = [t for t in tensors if t.ndim == 3 and t.shape[2] in (2, 3) and t.shape[1] > 1]
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
