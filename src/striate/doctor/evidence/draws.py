"""Draws of the same training image: what augmentation changes from one to the next."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import likeness_over_shifts
from striate.doctor.evidence.reading import DRAWN
from striate.doctor.setup.batch import main_tensor, parts

Pair = tuple[torch.Tensor, torch.Tensor]
ALIKE = 0.9
"""A correlation: what is moved, and no more."""
MOVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flipped left to right": lambda x: x.flip(-1),
    "flipped upside down": lambda x: x.flip(-2),
    "turned upside down": lambda x: x.flip(-1, -2),
    "turned by a quarter": lambda x: x.rot90(1, (-2, -1)),
}


def drawn_twice(evidence: Evidence) -> list[Pair]:
    """Some training images (C, H, W), drawn twice each; none where the data set gives the same ones. Raises NoEvidence
    where it cannot be asked."""
    if not evidence.drawn_anew:
        return []
    data = evidence.setup.train.dataset  # type: ignore[attr-defined]
    draws = [[main_tensor(parts(data[number])[0]) for _ in range(2)] for number in range(min(4 * DRAWN, len(data)))]
    return images([(one, other) for one, other in draws if one is not None and other is not None])


def images(pairs: list[Pair]) -> list[Pair]:
    """Those that are images of one size."""
    return [(one.float(), other.float()) for one, other in pairs if one.shape == other.shape and one.ndim == 3]


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """The highest correlation of two images (C, H, W) over all shifts, -1 to 1."""
    return float(likeness_over_shifts(one[None], other[None]))


def are_zoomed(pairs: list[Pair]) -> bool:
    """Whether a third of the draws differ by more than shifts, flips, light and contrast: by their scale, say."""
    apart = 0
    for one, other in pairs:
        ways = [other, other.flip(-1), other.flip(-2)]
        apart += max(likeness(one, way) for way in ways) < ALIKE
    return apart > len(pairs) / 3


def jitter(pairs: list[Pair]) -> tuple[float, float]:
    """How far draws usually are apart in contrast, as a logarithm, and in brightness, in deviations."""
    deviations = [(float(one.std()), float(other.std())) for one, other in pairs]
    logs = [abs(math.log(a / b)) for a, b in deviations if a > 0 and b > 0]
    means = [abs(float(one.mean() - other.mean())) / max(float(one.std()), 1e-12) for one, other in pairs]
    return statistics.median(logs or [0.0]), statistics.median(means or [0.0])
