"""The changes for which robustness is measured: their strengths, units and functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from striate.data.augment.warp import Warp
from striate.evaluation.robustness import changes
from striate.evaluation.robustness.changes import Draws

Change = Callable[[torch.Tensor, float, Draws], torch.Tensor]
"""From images (B, C, H, W) uint8, a strength and random numbers to images of the same shape and type."""

_STEPS = (1, 2, 3, 4, 6, 8, 12, 16)
_LARGE_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
_LARGE = 64
_MOST_SHIFT = 0.3
_BLURS = (0.01, 0.02, 0.04, 0.08)


@dataclass(frozen=True)
class Kind:
    """One kind of change, and the strengths that are measured."""

    name: str
    """Name of the kind: `shift`, `rotation`, …"""
    unit: str
    """What follows a strength in words: `30°`, `4 pixels`."""
    strengths: tuple[float, ...]
    """The strengths that are measured."""
    identity: float | None
    """The strength that would change nothing; None where there is none."""
    what: str
    """What the change does, as a sentence."""
    change: Change
    """The function that changes a batch."""
    moves: bool = False
    """Whether the change moves parts of the image, or covers them with other images: its targets may no longer fit."""
    warp: Callable[[float, Draws], Warp] | None = None
    """The same movement as a `Warp`, which targets on the grid of the image follow; None without one."""


def kinds_for(height: int, width: int) -> tuple[Kind, ...]:
    """All kinds, with strengths for images of this size."""
    side = min(height, width)
    edge = "outside, the edge is repeated"
    moved = partial(Kind, moves=True)
    around = "Fragments of other images placed around the center."
    return (
        moved("shift", "pixels", shifts(side), 0, f"Moved up, down, left or right; {edge}.", changes.shift,
              warp=changes.shifted),
        moved("rotation", "°", (5, 10, 20, 30, 45), 0, f"Rotated about the center; {edge}.", changes.rotate),
        moved("scale", "×", (0.5, 0.67, 0.8, 1.25, 1.5, 2), 1, f"Scaled about the center; {edge}.", changes.scale),
        Kind("occlusion", "% covered", (5, 10, 20, 30, 50), 0, "Part is covered in the mean color.", changes.occlude),
        moved("deformation", "% of the side", (1, 2, 4, 6, 8), 0, "Bent along a smooth random field.", changes.deform),
        moved("viewpoint", "° tilted", (15, 30, 45, 60), 0, f"Seen as a tilted card; {edge}.", changes.tilt),
        moved("clutter", "fragments", (1, 2, 4, 8, 16), 0, around, changes.clutter),
        Kind("illumination", "stops", (-4, -3, -2, -1, 1, 2), 0, "One stop doubles the light.", changes.relight),
        Kind("noise", "gray levels", (8, 16, 32, 64, 96), 0, "Gaussian; standard deviation.", changes.add_noise),
        Kind("blur", "pixels", blurs(side), 0, "A Gaussian blur of this standard deviation.", changes.blur),
        Kind("JPEG", "quality", (80, 50, 30, 15, 5), None, "Stored as a JPEG of this quality.", changes.compress),
    )  # fmt: skip


def shifts(side: int) -> tuple[float, ...]:
    """Integers of pixels, up to 30 % of the side: in steps of 1 at first, since strides of pooling have an effect
    there."""
    steps = _LARGE_STEPS if side > _LARGE else _STEPS
    return tuple(float(step) for step in steps if step <= max(1, _MOST_SHIFT * side))


def blurs(side: int) -> tuple[float, ...]:
    """Standard deviations in pixels: 1, 2, 4 and 8 % of the side."""
    return tuple(max(0.1, round(share * side, 1)) for share in _BLURS)
