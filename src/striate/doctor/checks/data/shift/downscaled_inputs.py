"""Inputs that are downscaled targets, as for super-resolution: is validation downscaled differently from training?"""

from __future__ import annotations

import torch
from torch.nn.functional import unfold

from striate.doctor.evidence.evidence import Evidence
from striate.wording import several

_FEWEST, _MOST, _PIXELS, _LARGEST, _SMALLEST = 16, 64, 8192, 4, 6
"""The fewest and most images of each split; the most pixels; the largest factor; the fewest pixels of a side."""
_EXACT, _OTHER, _RIDGE = 0.03, 0.1, 1e-9
"""Errors of predicting pixels by fixed weights of the large image around them, in standard deviations: the most if the
weights apply, the least if they do not; and the strength of the ridge regression."""

Pixels = tuple[torch.Tensor, torch.Tensor]


def downscaled_differently(evidence: Evidence) -> str:
    """The measured difference if validation inputs are downscaled with other weights than training inputs, where each
    split has fixed weights; else empty."""
    train, val = (_patches_and_pixels(part.x, part.y) for part in (evidence.samples, evidence.val_samples))
    if train is None or val is None or train[0].shape[1] != val[0].shape[1]:
        return ""
    half = len(train[0]) // 2
    way, own = (_weights(around[:count], pixels[:count]) for (around, pixels), count in ((train, half), (val, None)))
    as_trained = _error(way, (train[0][half:], train[1][half:]))
    there, by_its_own = _error(way, val), _error(own, val)
    if max(as_trained, by_its_own) > _EXACT or there < _OTHER:
        return ""
    return (
        f"each pixel of the input is a weighted sum of {several(train[0].shape[1] - 1, 'pixel')} of the target; the "
        f"weights of training predict training inputs with an error of {as_trained:.2f} standard deviations and "
        f"validation inputs with {there:.2f}, where their own weights reach {by_its_own:.2f}: validation was "
        "downscaled in another way"
    )


def _patches_and_pixels(x: torch.Tensor | None, y: torch.Tensor | None) -> Pixels | None:
    """Patches of large images around some pixels of the small ones, with a column of ones (pixels, numbers), and these
    pixels (pixels,)."""
    if x is None or y is None or x.ndim != 4 or y.ndim != 4 or x.shape[:2] != y.shape[:2] or len(x) < _FEWEST:
        return None
    times, side = y.shape[-1] // x.shape[-1], min(x.shape[2:])
    if not 2 <= times <= _LARGEST or y.shape[2:] != (times * x.shape[2], times * x.shape[3]) or side < _SMALLEST:
        return None
    large, small = y[:_MOST].double().flatten(0, 1)[:, None], x[:_MOST].double().flatten(0, 1)[:, 1:-1, 1:-1]
    around = unfold(large, 3 * times, stride=times).transpose(1, 2).flatten(0, 1)
    rows = slice(None, None, -(-len(around) // _PIXELS))
    return torch.cat([around, torch.ones(len(around), 1).double()], 1)[rows], small.flatten()[rows]


def _weights(around: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    gram = around.T @ around
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram)).double()
    weights: torch.Tensor = torch.linalg.solve(gram + ridge, around.T @ pixels)
    return weights


def _error(weights: torch.Tensor, given: Pixels) -> float:
    around, pixels = given
    return float((around @ weights - pixels).square().mean().sqrt() / pixels.std().clamp_min(1e-12))
