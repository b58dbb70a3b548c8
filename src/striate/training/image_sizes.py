"""How large training images are at a step: small at first, which is cheap, then in a few stages up to their full size.

Howard, "Training Imagenet in 3 hours for $25", fast.ai 2018; Tan and Le, "EfficientNetV2", 2021, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from striate.training.config import ScheduleConfig

FULL_SIZE_FROM = 0.6
"""Share of the steps that belongs to smaller images where nothing else is said."""
_GRID = 4  # sides are multiples of this many pixels, so that poolings and strides meet whole maps
_MOST = 4  # smaller sizes at most: kernels are chosen anew for each

Size = tuple[int, int]


@dataclass(frozen=True)
class Stage:
    """From the optimizer step `first` (counted from 0) up to, without, the step `end`, images have (height, width)
    `size`; None leaves them as they are."""

    first: int
    end: int
    size: Size | None


def smaller_sizes(first_size: float, full: Size) -> tuple[Size, ...]:
    """The (height, width) below `full` (pixels) that images go through, growing; none where there is no smaller one.

    At most four, evenly spaced from `first_size` (a share) on; each side a multiple of 4 and at least 4 pixels.
    """
    count = min(_MOST, math.ceil((1 - first_size) * max(full) / _GRID))
    shares = [first_size + (1 - first_size) * k / count for k in range(count)]
    sizes = dict.fromkeys((_rounded(share, full[0]), _rounded(share, full[1])) for share in shares)
    return tuple(size for size in sizes if size != full)


def _rounded(share: float, side: int) -> int:
    return min(side, max(_GRID, _GRID * math.floor(share * side / _GRID + 0.5)))


def stages(schedule: ScheduleConfig, steps: int, full: Size | None) -> tuple[Stage, ...]:
    """What size images have in which of `steps` optimizer steps, without gaps; `full` is None for what is no image.

    Smaller sizes have equal shares of the steps up to `full_size_from`. A stage without a step is left out.
    """
    sizes = smaller_sizes(schedule.first_size or 1.0, full) if full is not None else ()
    share = FULL_SIZE_FROM if schedule.full_size_from is None else schedule.full_size_from
    ends = [math.floor(share * steps * (k + 1) / len(sizes)) for k in range(len(sizes))]
    bounds = [0, *ends, steps]
    every = [Stage(a, b, size) for a, b, size in zip(bounds, bounds[1:], (*sizes, None), strict=False)]
    return tuple(stage for stage in every if stage.end > stage.first)


def image_size(schedule: ScheduleConfig, step: int, steps: int, full: Size | None) -> Size | None:
    """(height, width) of training images at the optimizer step `step` (0 to steps − 1) of `steps`; None where they
    have their full size. A function of the step alone, so that a run that goes on from a checkpoint sees the same."""
    if schedule.first_size in (None, 1.0):
        return None
    return next((s.size for s in stages(schedule, steps, full) if s.first <= step < s.end), None)
