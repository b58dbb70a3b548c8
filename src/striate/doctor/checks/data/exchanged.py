"""Flips and turns of training images that make what one class looks like into another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.reading import DRAWN
from striate.doctor.evidence.simple_models import Reference
from striate.doctor.setup.batch import main_tensor, parts

EXCHANGED, TELLS = 0.4, 0.75
"""Of a class that is taken for another one; of validation that a simple model tells."""
_ALIKE, _MORE, _SHARE = 0.9, 0.1, 0.05
"""A correlation; by so much more than that of the draws as they are; of pairs of draws."""
_MOVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flipped left to right": lambda x: x.flip(-1),
    "flipped upside down": lambda x: x.flip(-2),
    "turned upside down": lambda x: x.flip(-1, -2),
    "turned by a quarter": lambda x: x.rot90(1, (-2, -1)),
}


def exchanged(evidence: Evidence, plain: Reference, shown: torch.Tensor, place: str) -> tuple[str, int, int] | None:
    """A move of training images, and two classes each of which is often taken for the other one once validation is
    moved so, by the simple models that tell validation apart. `shown`: what the step gives the network."""
    x, labels = evidence.val_samples.sole_inputs, plain.labels
    models = [name for name in plain.opinions if plain.accuracy(name) >= TELLS]
    if x.ndim != 4 or not models:
        return None
    own = evidence.samples.sole_inputs
    pairs = _drawn_twice(evidence) if place == "loader" else list(zip(own, shown, strict=False))
    for words in _moves_between([(a.float(), b.float()) for a, b in pairs if a.shape == b.shape and a.ndim == 3]):
        told = [plain.ask(_MOVES[words](x[plain.rows]), name) for name in models]
        for one, other in combinations(sorted(set(labels.tolist())), 2):
            ways = [(labels == a, b) for a, b in ((one, other), (other, one))]
            taken = [min(float((said[of] == b).mean()) for of, b in ways) for said in told]
            if sum(taken) / len(taken) >= EXCHANGED:
                return words, one, other
    return None


def _drawn_twice(evidence: Evidence) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = evidence.setup.train.dataset  # type: ignore[attr-defined]
    draws = [[main_tensor(parts(data[number])[0]) for _ in range(2)] for number in range(min(4 * DRAWN, len(data)))]
    return [(one, other) for one, other in draws if one is not None and other is not None]


def _moves_between(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[str]:
    """The moves that lie between two draws of the same sample, wherever it is shifted to as well."""
    square = all(one.shape[-1] == one.shape[-2] for one, _ in pairs)
    for words, move in _MOVES.items():
        if words == "turned by a quarter" and not square:
            continue
        found = 0
        for one, other in pairs:
            there = _likeness(one, move(other))
            found += there > _ALIKE and there > _likeness(one, other) + _MORE
        if found > _SHARE * len(pairs):
            yield words


def _likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """The highest correlation of two images (C, H, W) over all shifts, -1 to 1."""
    a, b = (part - part.mean() for part in (one, other))
    size = float(a.norm() * b.norm())
    spectrum = torch.fft.rfft2(a) * torch.fft.rfft2(b).conj()
    return float(torch.fft.irfft2(spectrum, s=a.shape[-2:]).sum(0).max()) / size if size else 0.0
