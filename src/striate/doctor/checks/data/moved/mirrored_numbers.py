"""Quantities that turn round with a picture, such as an angle, beside pictures that are mirrored without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.samples import Samples, gathered
from striate.doctor.evidence.simple_models import halves, ridge_weights
from striate.doctor.setup.batch import Path, leaf, leaves

_FEWEST, _MOST, _SIDE = 40, 600, 24
_PAIRS, _OFTEN = 3, 0.5
_NUMBERS = 32
"""Of a target, as of points and boxes."""
_TOLD, _TURNED = 0.6, -0.5
"""Correlations of what a simple model says of new pictures with their numbers, as they are and mirrored."""


def kept_when_mirrored(
    evidence: Evidence, flips: list[tuple[Any, Any]], axis: int = -1
) -> tuple[int, float, float] | None:
    """In how many pairs of draws that are mirror images along an axis a number is the same, and how what a ridge
    regression says of validation correlates with it, of pictures as they are and of mirrored ones; None where these
    have the same."""
    for path in _numbers_of(flips[0][0]) if flips else ():
        pairs = [(leaf(one, path), leaf(other, path)) for one, other in flips]
        known = [(a.flatten(), b.flatten()) for a, b in pairs if a is not None and b is not None and a.shape == b.shape]
        if sum(bool((a == b).any()) for a, b in known) < _PAIRS:
            continue
        try:
            samples = replace(evidence.val_samples, y=gathered(evidence.val.raw, path))
            told = turns_round(samples, axis)
        except NoEvidence:
            return None
        if told is None or any(told[0] >= len(a) for a, _ in known):
            continue
        numbers = [(float(a[told[0]]), float(b[told[0]])) for a, b in known]
        same = sum(a == b for a, b in numbers if a)
        sure = sum(torch.equal(a, b) for a, b in known) >= _PAIRS or _only_along(samples, told[0], axis)
        if sure and same >= max(_PAIRS, _OFTEN * len(known)):
            return (same, *told[1:])
    return None


def _numbers_of(draw: Any) -> list[Path]:
    """Where a draw of a sample holds a few quantities: its target, or one of several."""
    return [path for path, part in leaves(draw) if part.is_floating_point() and part.numel() <= _NUMBERS]


def turns_round(samples: Samples, axis: int = -1) -> tuple[int, float, float] | None:
    """Of a target's number that turns round with its picture, such as a column, which one it is, and the correlations
    with what a model that was made of half of the samples says of the other half: as they are, and mirrored along an
    axis. None where no number does; a yes or no is none, nor are rows of all boxes of a batch."""
    x, y = samples.inputs[:_MOST].float(), samples.y
    if x.ndim != 4 or len(x) < _FEWEST or y is None or len(y) != len(samples.inputs):
        return None
    if not y.is_floating_point() or y[0].numel() > _NUMBERS:
        return None
    for place, column in enumerate(y[:_MOST].reshape(len(x), -1).double().T):
        if len(column.unique()) > 2:
            told = _correlations(x, column, axis)
            if told[0] >= _TOLD and told[1] <= _TURNED:
                return (place, *told)
    return None


def _only_along(samples: Samples, place: int, axis: int) -> bool:
    """Whether a number of the target turns round along one axis and stays along the other, also by how far pictures are
    from their mean. Where others move, it may rightly stay: mirrored parts of other colors look as if it did not."""
    x = samples.inputs[:_MOST].float()
    assert samples.y is not None
    y = samples.y[:_MOST].reshape(len(x), -1)[:, place].double()
    return all(
        _correlations(shown, y, axis)[1] <= _TURNED and _correlations(shown, y, -3 - axis)[1] >= -_TURNED
        for shown in (x, (x - x.mean(0)).abs())
    )


def _correlations(x: torch.Tensor, y: torch.Tensor, axis: int) -> tuple[float, float]:
    small = torch.nn.functional.adaptive_avg_pool2d(x, (min(_SIDE, x.shape[2]), min(_SIDE, x.shape[3])))
    known, asked = halves(len(x))
    mean, flat = small[known].mean(0), small.double()
    seen, as_is, mirrored = ((part - mean).flatten(1) for part in (flat[known], flat[asked], flat[asked].flip(axis)))
    weights = ridge_weights(seen, y[known] - y[known].mean())
    said = [part @ seen.T @ weights for part in (as_is, mirrored)]
    found = [float(torch.corrcoef(torch.stack([one, y[asked]]))[0, 1]) for one in said]
    return found[0], found[1]
