"""Points as tensors: expected positions of heatmaps, distances, and confidence.

Positions are right and down, −1 to 1 over the input. Targets (N, K, 4) are those of `striate.data.annotations.points`:
a position, and the pixels of the file per unit along each axis, 0 where the point is not visible.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

NEAR = 0.1
"""Predictions within this share of the size of the true points are correct (PCK)."""


@lru_cache(maxsize=32)
def _centers(cells: int, device: torch.device) -> torch.Tensor:
    """(cells,) positions of the centers of cells; the same object for each call."""
    with torch.inference_mode(False):
        return (2 * torch.arange(cells, device=device, dtype=torch.float32) + 1) / cells - 1


def heat(logits: torch.Tensor) -> torch.Tensor:
    """(N, K, H, W) heatmaps by softmax, each of which sums to 1."""
    return logits.float().flatten(2).softmax(2).view(logits.shape)


def expected_places(shares: torch.Tensor) -> torch.Tensor:
    """(N, K, 2) mean positions of the heatmaps: differentiable, and finer than a cell (Nibali et al., "Numerical
    coordinate regression with convolutional neural networks", 2018; Sun et al., "Integral human pose regression",
    2018)."""
    down, right = (_centers(side, shares.device) for side in shares.shape[2:])
    return torch.stack([(shares.sum(2) * right).sum(2), (shares.sum(3) * down).sum(2)], dim=2)


def gaussian_maps(places: torch.Tensor, cells: tuple[int, int], deviation: float) -> torch.Tensor:
    """(N, K, H, W) normal distributions around positions (N, K, 2), with a standard deviation of `deviation` cells,
    each of which sums to 1."""
    parts = []
    for axis, side in ((1, cells[0]), (0, cells[1])):
        distance = (_centers(side, places.device) - places[..., axis, None]) * (side / 2)
        parts.append(torch.softmax(-0.5 * (distance / deviation) ** 2, dim=2))
    return parts[0][..., :, None] * parts[1][..., None, :]


def divergence(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """(N, K) Jensen–Shannon divergence of heatmaps (N, K, H, W), in nats."""
    tiny = 1e-12
    mean = ((one + other) / 2).clamp(min=tiny).log()
    first, second = ((part * (part.clamp(min=tiny).log() - mean)).sum((2, 3)) for part in (one, other))
    return (first + second) / 2


def visible(targets: torch.Tensor) -> torch.Tensor:
    """(N, K) bool: whether each point is visible."""
    return targets[..., 2] > 0


def sizes(targets: torch.Tensor) -> torch.Tensor:
    """(N,) √(w · h) of the box around the visible true points, in pixels of the file; the size of the input where the
    box has no area, as for a single point. 1 where no point is visible."""
    seen = visible(targets)[..., None]
    units = targets[..., 2:]
    places = targets[..., :2] * units
    infinite = torch.full_like(places, torch.inf)
    spans = torch.where(seen, places, -infinite).amax(1) - torch.where(seen, places, infinite).amin(1)
    area = spans.clamp(min=0).prod(1)
    whole = (2 * units).amax(1).prod(1)
    return torch.where(area > 0, area, torch.where(whole > 0, whole, torch.ones_like(whole))).sqrt()


def distances(places: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(N, K) distances of positions (N, K, 2) from the true ones, in pixels of the file; 0 where a point is not
    visible."""
    offset = (places - targets[..., :2]) * targets[..., 2:]
    # The square root has no derivative at 0.
    return (offset.square().sum(2) + 1e-12).sqrt() * visible(targets)


def relative_distances(places: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(N, K) distances divided by the sizes of the true points."""
    return distances(places, targets) / sizes(targets)[:, None]


def confidence_of_heat(shares: torch.Tensor, places: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """(N, K) share of the heat within `reach` (N, 2), right and down, of each position."""
    down, right = (_centers(side, shares.device) for side in shares.shape[2:])
    x = ((right - places[..., :1]) / reach[:, None, :1]) ** 2
    y = ((down - places[..., 1:]) / reach[:, None, 1:]) ** 2
    return (shares * ((y[..., :, None] + x[..., None, :]) <= 1)).sum((2, 3))


def in_pixels(points: Any, size: tuple[int, ...]) -> NDArray[np.float64]:
    """(K, …) points whose first two numbers are right and down in pixels of a picture of (height, width) `size`, from
    the corner of its first pixel."""
    found = np.array(torch.as_tensor(points).double().tolist())
    found[:, :2] = (found[:, :2] + 1) * np.array(size[::-1]) / 2
    return found


def spanning_tree(mean: NDArray[np.float64]) -> tuple[tuple[int, int], ...]:
    """The skeleton of points where the data have none: the minimum spanning tree of the mean shape (K, 2), as pairs of
    points; points that are NaN are not joined."""
    known = np.flatnonzero(np.isfinite(mean).all(1))
    if len(known) < 2:
        return ()
    from scipy.sparse.csgraph import minimum_spanning_tree  # takes a third of a second to load
    from scipy.spatial.distance import cdist

    tree = minimum_spanning_tree(cdist(mean[known], mean[known])).tocoo()
    edges = zip(known[tree.row].tolist(), known[tree.col].tolist(), strict=True)
    return tuple(sorted((min(edge), max(edge)) for edge in edges))
