"""Do maps of classes belong to the inputs that they come with?"""

from __future__ import annotations

import torch
from torch.nn import functional

PAIRINGS = 40
_MOST, _SIDE = 256, 64
_NEAR = 3


def belonging(x: torch.Tensor, maps: torch.Tensor) -> tuple[float, list[float]]:
    """How well simple descriptions of positions tell their classes apart, with the maps as they are, and with maps and
    inputs paired at random, the same each time; none where all labeled positions are of one class.

    `x` (N, C, *positions), `maps` (N, *positions) int64, below 0 where not labeled. Each position is described by its
    channels, standardized in its own sample, and by their mean and standard deviation nearby; what is measured is the
    share of variance between classes, of the description that has the largest. Random pairings keep what all maps
    have in common, such as things that lie in the middle.
    """
    x, maps = _thinned(x[:_MOST].float(), maps[:_MOST])
    described, classes = _described(x), int(maps.max()) + 1
    if len(maps[maps >= 0].unique()) < 2:
        return 0.0, []
    generator = torch.Generator().manual_seed(0)
    pairings = [torch.randperm(len(maps), generator=generator) for _ in range(PAIRINGS)]
    return _between(described, maps, classes), [_between(described, maps[order], classes) for order in pairings]


def answers_belong(answers: torch.Tensor, maps: torch.Tensor) -> bool:
    """Whether predicted maps (N, *positions) agree with their own maps more than with those of other samples, in all
    of some random pairings."""
    generator = torch.Generator().manual_seed(0)

    def agreement(others: torch.Tensor) -> float:
        return float((answers == others)[others >= 0].double().mean())

    own = agreement(maps)
    return all(own > agreement(maps[torch.randperm(len(maps), generator=generator)]) for _ in range(PAIRINGS))


def _thinned(x: torch.Tensor, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every so many positions of large inputs: nothing is averaged, so that labels stay what they are."""
    for axis, side in enumerate(maps.shape[1:], 1):
        places = torch.arange(0, side, -(-side // _SIDE))
        x, maps = x.index_select(axis + 1, places), maps.index_select(axis, places)
    return x, maps


def _described(x: torch.Tensor) -> torch.Tensor:
    """(N, F, P) descriptions of positions."""
    flat = x.flatten(2)
    spread = flat.std(2, keepdim=True).clamp(min=1e-6)
    x = ((flat - flat.mean(2, keepdim=True)) / spread).view_as(x)
    pool = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[x.ndim - 2]
    near = pool(x, _NEAR, 1, _NEAR // 2, count_include_pad=False)
    rough = (pool(x * x, _NEAR, 1, _NEAR // 2, count_include_pad=False) - near * near).clamp(min=0).sqrt()
    found = torch.cat([x, near, rough], 1).flatten(2)
    return found - found.mean((0, 2), keepdim=True)


def _between(described: torch.Tensor, maps: torch.Tensor, classes: int) -> float:
    """The largest share of variance of a description that lies between classes."""
    flat = maps.flatten()
    known = flat >= 0
    values = described.movedim(1, 2).flatten(0, 1)[known].double()
    counts = torch.bincount(flat[known], minlength=classes).clamp(min=1).double()
    sums = torch.zeros(classes, values.shape[1], dtype=torch.float64).index_add_(0, flat[known], values)
    center = values.mean(0)
    between = ((sums / counts[:, None] - center) ** 2 * counts[:, None] * (sums != 0)).sum(0)
    total = ((values - center) ** 2).sum(0).clamp(min=1e-12)
    return float((between / total).max())
