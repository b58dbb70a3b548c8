"""Statistics of masks for `striate data check`: enough to find masks that were interpolated, turned, or belong to other
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
class MaskStatistics:
    """Borders of a mask, and edges of its image."""

    steps: int
    """Number of pixels whose two neighbors on an axis differ by two or more."""
    between: int
    """Those of `steps` whose own value lies between the values of the neighbors."""
    border: NDArray[np.float16]
    """(64, 64) borders between the values of the mask, with mean 0 and length 1; 0 throughout where there are none."""
    gradient: NDArray[np.float16]
    """(64, 64) edges of the image, likewise."""


def measure_mask(mask: NDArray[np.uint8], luma: NDArray[np.uint8]) -> MaskStatistics:
    """Statistics of the values (H, W) of a mask and the luma (h, w) of its image, which may be smaller."""
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
    return MaskStatistics(steps, between, _described(edges), _described(np.sqrt(slopes)))


def _described(values: NDArray[np.float32]) -> NDArray[np.float16]:
    small = np.asarray(Image.fromarray(values.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX))
    small = small - small.mean()
    found: NDArray[np.float16] = (small / max(float(np.sqrt((small**2).sum())), 1e-6)).astype(np.float16)
    return found


FEWEST, CERTAIN, LEAST = 10, 4.0, 0.02
"""The fewest pairs of neighbors, the number of standard errors, and the least difference of correlations, with which
masks are reported as belonging to other images."""


TURNS: tuple[tuple[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]], ...] = (
    ("rows and columns are exchanged", lambda maps: maps.transpose(0, 2, 1)),
    ("left and right are exchanged", lambda maps: maps[:, :, ::-1]),
    ("top and bottom are exchanged", lambda maps: maps[:, ::-1]),
    ("they are upside down", lambda maps: maps[:, ::-1, ::-1]),
)


def turned_fit(masks: list[MaskStatistics]) -> tuple[str, float] | None:
    """The rotation or reflection of `TURNS` after which masks fit their images better, and the gain in the correlation
    of borders and edges; None where there is no such gain, or too few masks."""
    if len(masks) < FEWEST:
        return None
    edges = np.stack([mask.gradient for mask in masks]).astype(np.float32)
    borders = np.stack([mask.border for mask in masks]).astype(np.float32)
    own = (edges * borders).sum((1, 2))
    found = [(what, _lead((edges * turn(borders)).sum((1, 2)) - own)) for what, turn in TURNS]
    what, lead = max(found, key=lambda one: one[1])
    return (what, lead) if lead else None


def _lead(leads: NDArray[np.float32]) -> float:
    """The mean, where it is certainly and markedly above 0; else 0."""
    mean = float(leads.mean())
    return mean if mean > max(LEAST, CERTAIN * float(leads.std()) / len(leads) ** 0.5) else 0.0


def neighbors_fit(masks: list[MaskStatistics]) -> dict[int, float]:
    """Whether the borders of masks fit the edges of a neighboring image better than those of their own.

    By distance in the order of the names, 1 or -1: the gain in the correlation of borders and edges. Empty where there
    is no gain, or too few masks."""
    found = {}
    edges = np.stack([mask.gradient for mask in masks]).reshape(len(masks), -1).astype(np.float32)
    borders = np.stack([mask.border for mask in masks]).reshape(len(masks), -1).astype(np.float32)
    own = (edges * borders).sum(1)
    for distance in (1, -1):
        images = np.arange(max(0, distance), len(masks) + min(0, distance))
        if len(images) < FEWEST:
            continue
        if lead := _lead((edges[images] * borders[images - distance]).sum(1) - own[images - distance]):
            found[distance] = lead
    return found
