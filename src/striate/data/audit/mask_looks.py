"""What is kept of each mask when a data set is checked: enough to see that masks were interpolated, or belong to other
images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
"""Pixels: borders and gradients are compared at this size."""


@dataclass(frozen=True)
class MaskLook:
    """`steps`: places where the values two pixels apart differ by two or more; `between`: those of them where the pixel
    in the middle lies between the two. `border` and `gradient` (64, 64) float16 of mask and image, each with mean 0
    and length 1, or 0 throughout."""

    steps: int
    between: int
    border: NDArray[np.float16]
    gradient: NDArray[np.float16]


def look_at_mask(mask: NDArray[np.uint8], luma: NDArray[np.uint8]) -> MaskLook:
    """Of the values (H, W) of a mask and the luma (h, w) of its image, which may be smaller."""
    values = mask.astype(np.int16)
    steps = between = 0
    for lines in (values, values.T):
        before, middle, after = lines[:, :-2], lines[:, 1:-1], lines[:, 2:]
        wide = np.abs(after - before) >= 2
        inside = (np.minimum(before, after) < middle) & (middle < np.maximum(before, after))
        steps, between = steps + int(wide.sum()), between + int((wide & inside).sum())
    edges = np.zeros(mask.shape, np.float32)
    edges[:, 1:] += values[:, 1:] != values[:, :-1]
    edges[1:] += values[1:] != values[:-1]
    gray = luma.astype(np.float32)
    slopes = np.abs(np.gradient(gray, axis=0)) + np.abs(np.gradient(gray, axis=1)) if min(gray.shape) > 1 else gray * 0
    return MaskLook(steps, between, _described(edges), _described(np.sqrt(slopes)))


def _described(values: NDArray[np.float32]) -> NDArray[np.float16]:
    small = np.asarray(Image.fromarray(values.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX))
    small = small - small.mean()
    found: NDArray[np.float16] = (small / max(float(np.sqrt((small**2).sum())), 1e-6)).astype(np.float16)
    return found


FEWEST, CERTAIN, LEAST = 10, 4.0, 0.02
"""Pairs of neighbors, standard errors, and the least difference of correlations, from which masks are said to belong to
other images."""


TURNS: tuple[tuple[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]], ...] = (
    ("rows and columns are exchanged", lambda maps: maps.transpose(0, 2, 1)),
    ("left and right are exchanged", lambda maps: maps[:, :, ::-1]),
    ("top and bottom are exchanged", lambda maps: maps[:, ::-1]),
    ("they are upside down", lambda maps: maps[:, ::-1, ::-1]),
)


def turned_fit(looks: list[MaskLook]) -> tuple[str, float] | None:
    """How masks would fit their images better, turned or mirrored, and by how much the correlation of borders and edges
    is larger then; None where they would not, or nobody can tell."""
    if len(looks) < FEWEST:
        return None
    edges = np.stack([look.gradient for look in looks]).astype(np.float32)
    borders = np.stack([look.border for look in looks]).astype(np.float32)
    own = (edges * borders).sum((1, 2))
    found = [(what, _lead((edges * turn(borders)).sum((1, 2)) - own)) for what, turn in TURNS]
    what, lead = max(found, key=lambda one: one[1])
    return (what, lead) if lead else None


def _lead(leads: NDArray[np.float32]) -> float:
    """The mean, where it is certainly and markedly above 0; else 0."""
    mean = float(leads.mean())
    return mean if mean > max(LEAST, CERTAIN * float(leads.std()) / len(leads) ** 0.5) else 0.0


def neighbors_fit(looks: list[MaskLook]) -> dict[int, float]:
    """Whether the borders of masks lie where their neighbors' images have edges: for the distances 1 and -1, along the
    order of the names, by how much the correlation of borders and edges is larger than that with the own image; empty
    where it is not, or nobody can tell."""
    found = {}
    edges = np.stack([look.gradient for look in looks]).reshape(len(looks), -1).astype(np.float32)
    borders = np.stack([look.border for look in looks]).reshape(len(looks), -1).astype(np.float32)
    own = (edges * borders).sum(1)
    for distance in (1, -1):
        images = np.arange(max(0, distance), len(looks) + min(0, distance))
        if len(images) < FEWEST:
            continue
        if lead := _lead((edges[images] * borders[images - distance]).sum(1) - own[images - distance]):
            found[distance] = lead
    return found
