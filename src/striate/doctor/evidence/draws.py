"""Two draws of the same training image, and how augmentation makes them differ."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import correlation_by_shift, correlation_over_shifts
from striate.doctor.evidence.read_batches import DRAWN
from striate.doctor.setup.batch import main_tensor, parts

Pair = tuple[torch.Tensor, torch.Tensor]
ALIKE = 0.9
"""Correlation above which two images differ only by a shift."""
_WHITE = 0.1
"""Largest correlation of neighboring values of white noise."""
MOVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flipped left to right": lambda x: x.flip(-1),
    "flipped upside down": lambda x: x.flip(-2),
    "turned upside down": lambda x: x.flip(-1, -2),
    "turned by a quarter": lambda x: x.rot90(1, (-2, -1)),
}


def drawn_twice(evidence: Evidence) -> list[Pair]:
    """Some training images (C, H, W), each drawn twice; empty where the data set returns the same image twice. Raises
    NoEvidence where it cannot be read by index."""
    if not evidence.inputs_vary:
        return []
    data = evidence.setup.train.dataset  # type: ignore[attr-defined]
    draws = [[main_tensor(parts(data[number])[0]) for _ in range(2)] for number in range(min(4 * DRAWN, len(data)))]
    return images([(one, other) for one, other in draws if one is not None and other is not None])


def images(pairs: list[Pair]) -> list[Pair]:
    """The pairs that are images of one size, as float32."""
    return [(one.float(), other.float()) for one, other in pairs if one.shape == other.shape and one.ndim == 3]


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """The highest correlation of two images (C, H, W) over all shifts, -1 to 1."""
    return float(correlation_over_shifts(one[None], other[None]))


def are_zoomed(pairs: list[Pair]) -> bool:
    """Whether a third of the draws differ by more than shifts, flips, brightness and contrast, as by their scale."""
    apart = 0
    for one, other in pairs:
        flips = [other, other.flip(-1), other.flip(-2)]
        apart += max(likeness(one, flip) for flip in flips) < ALIKE
    return apart > len(pairs) / 3


def jitter(pairs: list[Pair]) -> tuple[float, float]:
    """Median difference of two draws in the logarithm of contrast, and in brightness, in standard deviations."""
    deviations = [(float(one.std()), float(other.std())) for one, other in pairs]
    logs = [abs(math.log(a / b)) for a, b in deviations if a > 0 and b > 0]
    means = [abs(float(one.mean() - other.mean())) / max(float(one.std()), 1e-12) for one, other in pairs]
    return statistics.median(logs or [0.0]), statistics.median(means or [0.0])


def noise(pairs: list[Pair]) -> float:
    """The standard deviation of the white noise in draws, after they are aligned and have the same contrast; 0 where
    most of them differ by something else."""
    found = []
    for one, other in pairs:
        moved, scale = _moved_over(one, other), float(one.std()) / max(float(other.std()), 1e-12)
        apart = one - one.mean() - scale * (moved - moved.mean())
        correlation = torch.corrcoef(torch.stack([apart[..., :-1].flatten(), apart[..., 1:].flatten()]))[0, 1]
        found.append(float(apart.std()) / (1 + scale**2) ** 0.5 if abs(float(correlation)) < _WHITE else 0.0)
    return statistics.median(found or [0.0])


def _moved_over(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The flip, rotation and shift of `other` (C, H, W) that correlates most with `one`."""
    turned = [flip.rot90(quarters, (-2, -1)) for flip in (other, other.flip(-1)) for quarters in range(4)]
    candidates = torch.stack([image for image in turned if image.shape == one.shape])
    alike = correlation_by_shift(one.expand_as(candidates), candidates).flatten(1)
    best = int(alike.amax(1).argmax())
    return candidates[best].roll(divmod(int(alike[best].argmax()), one.shape[-1]), (-2, -1))
