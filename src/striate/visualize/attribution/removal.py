"""Inputs with some of their parts removed by blurring."""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter

BLUR = 8
"""The standard deviation of the blur is a side divided by this."""
_MOST_CELLS = 14


def removed(x: torch.Tensor) -> torch.Tensor:
    """The input with everything removed: strongly blurred, by a Gaussian whose standard deviation is an eighth of
    each side; a table's features at zero, their mean in the training data. `x`: (1, C, *spatial) or (1, F).

    A blur removes information without adding edges, as a gray square would (Fong and Vedaldi,
    "Interpretable explanations of black boxes by meaningful perturbation", ICCV 2017).
    """
    if x.ndim == 2:
        return torch.zeros_like(x)
    widths = (0.0, 0.0, *(side / BLUR for side in x.shape[2:]))
    return torch.from_numpy(gaussian_filter(x.detach().float().cpu().numpy(), widths, mode="nearest")).to(x)


def without(x: torch.Tensor, taken: torch.Tensor, blank: torch.Tensor) -> torch.Tensor:
    """(N, …) copies of the input `x` (1, …), with `blank` where `taken` (N, *spatial) is true."""
    mask = taken.unsqueeze(1) if x.ndim > 2 else taken
    return torch.where(mask.to(x.device), blank, x)


def grid_of(spatial: tuple[int, ...]) -> tuple[int, ...]:
    """The number of cells along each side: 14, or the number of positions if that is smaller; features are cells."""
    return spatial if len(spatial) == 1 else tuple(min(_MOST_CELLS, side) for side in spatial)


def cell_numbers(spatial: tuple[int, ...]) -> torch.Tensor:
    """(*spatial) int64: the number of the cell in which each position lies, in row order."""
    numbers = torch.zeros(spatial, dtype=torch.int64)
    for axis, (side, cells) in enumerate(zip(spatial, grid_of(spatial), strict=True)):
        along = torch.arange(side) * cells // side
        numbers = numbers * cells + along.view([-1 if axis == other else 1 for other in range(len(spatial))])
    return numbers


def cell_means(values: torch.Tensor) -> torch.Tensor:
    """(cells,) float64 means of `values` (*spatial) in each cell."""
    numbers = cell_numbers(tuple(values.shape)).flatten()
    count = int(numbers.max()) + 1
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, numbers, values.detach().cpu().double().flatten())
    return sums / numbers.bincount(minlength=count)
