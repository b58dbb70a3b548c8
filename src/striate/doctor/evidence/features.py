"""Features of inputs for simple models: of images and signals, averages over blocks and responses of random filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

Numbers = NDArray[np.float32]

COMPONENTS = 40
_SIDES = {1: 128, 2: 16, 3: 8}
"""Longest side of a grid after averaging over blocks, by its number of axes."""
_MOST_COLUMNS = 800
_SHORTEST = 5
"""Fewest tokens of a sequence: rows of fewer integers are rows of a table."""
_FEW_CHANNELS = 4
_FILTERS = 32
_FOR_SHIFTS = 256
"""Samples from which each filter's median response is computed: each has hundreds of positions."""
_LARGEST = 4.0
"""Standardized columns are clipped to this, so that a single outlier does not decide."""


def is_grid(x: torch.Tensor) -> bool:
    """Whether samples are images, signals or volumes: more than one axis, and more than a dozen numbers."""
    return x.ndim >= 3 and x[0].numel() > 12


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """Grids (N, H, W, C) as (N, C, H, W). Grids (N, H, W) are returned as they are, like signals (N, C, L)."""
    last = x.ndim >= 4 and x.shape[-1] <= _FEW_CHANNELS < x.shape[1]
    return x.movedim(-1, 1) if last else x


def coarse(x: torch.Tensor) -> torch.Tensor:
    """(N, C, …) averaged over blocks, so that no axis is longer than in `_SIDES`."""
    axes = x.ndim - 2
    if axes not in _SIDES:
        return x
    size = [min(side, _SIDES[axes]) for side in x.shape[2:]]
    if list(x.shape[2:]) == size:
        return x
    pools: dict[int, Callable[..., torch.Tensor]] = {
        1: functional.adaptive_avg_pool1d,
        2: functional.adaptive_avg_pool2d,
        3: functional.adaptive_avg_pool3d,
    }
    return pools[axes](x, size)


@dataclass(frozen=True)
class FeatureExtractor:
    """Computes features of inputs; fitted to training inputs."""

    grid: bool
    """Whether inputs are images, signals or volumes."""
    center: torch.Tensor
    """(D,) means that are subtracted."""
    scale: torch.Tensor
    """Standard deviation that columns are divided by: one for grids, (D,) for tables."""
    basis: torch.Tensor | None
    """(D, COMPONENTS) principal directions; None where there are at most COMPONENTS columns."""
    shifts: tuple[torch.Tensor, ...]
    """(F,) each filter's median response to training inputs, for each dilation."""
    words: int = 0
    """Vocabulary size of token sequences, whose token counts are features too; 0 for other inputs."""

    def coarse_features(self, x: torch.Tensor) -> Numbers:
        """(N, D) of inputs (N, …): at most COMPONENTS principal components of averages over blocks; columns of
        tables."""
        flat = (_flat(x, self.grid, self.words) - self.center) / self.scale
        if not self.grid:
            flat = flat.clamp(-_LARGEST, _LARGEST)
        if self.basis is not None:
            flat = flat @ self.basis
        return flat.numpy()

    def filter_responses(self, x: torch.Tensor) -> Numbers:
        """(N, F) of inputs (N, …): each random filter's largest response, and the share of positions at which it
        exceeds its median over training inputs; (N, 0) for tables."""
        found = []
        for responses, shift in zip(_responses(_scaled(x)), self.shifts, strict=True):
            flat = responses.flatten(2)
            found += [flat.amax(2), (flat > shift[None, :, None]).float().mean(2)]
        return (torch.cat(found, dim=1) if found else torch.zeros(len(x), 0)).numpy()


def fit_features(x: torch.Tensor) -> FeatureExtractor:
    """Fit the features to training inputs (N, …), all finite."""
    grid = is_grid(x)
    words = _words(x)
    flat = _flat(x, grid, words)
    center = flat.mean(0)
    deviation = flat.std(0, correction=0)
    # Pixels keep their relative strength; columns of a table have units of their own.
    scale = (
        deviation.square().mean().sqrt().clamp_min(1e-12) if grid else torch.where(deviation > 1e-12, deviation, 1.0)
    )
    basis = _basis((flat - center) / scale) if flat.shape[1] > COMPONENTS else None
    shifts: tuple[torch.Tensor, ...] = ()
    if grid:
        some = _scaled(x[:: -(-len(x) // _FOR_SHIFTS)])
        shifts = tuple(responses.transpose(0, 1).flatten(1).median(1).values for responses in _responses(some))
    return FeatureExtractor(grid, center, scale, basis, shifts, words)


def _basis(standard: torch.Tensor) -> torch.Tensor:
    """(D, COMPONENTS) principal directions of centered rows; for very many columns, those of random projections."""
    mixture = None
    if standard.shape[1] > _MOST_COLUMNS:
        generator = torch.Generator().manual_seed(0)
        mixture = torch.randn(standard.shape[1], _MOST_COLUMNS // 2, generator=generator) / standard.shape[1] ** 0.5
        standard = standard @ mixture
    _, vectors = torch.linalg.eigh(standard.T @ standard)
    found: torch.Tensor = vectors[:, -COMPONENTS:].flip(1)
    return found if mixture is None else mixture @ found


def _flat(x: torch.Tensor, grid: bool, words: int) -> torch.Tensor:
    if grid:
        return coarse(channels_first(x.float())).flatten(1)
    columns = x.float().reshape(len(x), -1)
    if not words:
        return columns
    counts = torch.zeros(len(x), words).scatter_add_(1, x.long().clamp(0, words - 1), torch.ones(x.shape))
    return torch.cat([columns, counts], 1)


def _words(x: torch.Tensor) -> int:
    """The vocabulary size where samples are token sequences; 0 elsewhere."""
    if x.ndim != 2 or x.shape[1] < _SHORTEST or x.dtype not in (torch.int64, torch.int32) or int(x.min()) < 0:
        return 0
    count = int(x.max()) + 1
    return count if count <= _MOST_COLUMNS else 0


def _scaled(x: torch.Tensor) -> torch.Tensor:
    """Grids, each with mean 0 and variance 1, so that brightness and contrast do not count."""
    found = coarse(channels_first(x.float()))
    axes = tuple(range(1, found.ndim))
    mean, deviation = found.mean(axes, keepdim=True), found.std(axes, keepdim=True, correction=0)
    return (found - mean) / deviation.clamp_min(1e-6 * (mean.abs() + 1e-6))


def _responses(x: torch.Tensor) -> list[torch.Tensor]:
    """(N, F, …) responses of fixed random filters, with dilations of 1 and of 2."""
    axes = x.ndim - 2
    if axes not in _SIDES:
        return []
    generator = torch.Generator().manual_seed(0)
    width = 7 if axes == 1 else 3
    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[axes]
    found = []
    for dilation in (1, 2):
        kernel = torch.randn(_FILTERS, x.shape[1], *[width] * axes, generator=generator)
        kernel = kernel - kernel.mean(tuple(range(2, kernel.ndim)), keepdim=True)
        found.append(convolve(x, kernel, padding=dilation * (width // 2), dilation=dilation))
    return found
