"""The smallest changes of an input that change the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from striate.visualize.attribution.question import Question, outputs_of
from striate.visualize.attribution.removal import removed, without

SIZES = tuple(k / 10 for k in range(1, 8))
"""Sides of the blurred rectangle relative to the sides of the input: at most about half of its area."""
_AT_ONCE = 64  # of over a thousand rectangles
_STEPS, _HALVINGS = 30, 12
_BEYOND = 1.02


@dataclass(frozen=True)
class Covering:
    """The smallest rectangle of those tried whose blurring changes the prediction."""

    first: tuple[int, ...]
    """Its first position along each axis."""
    size: tuple[int, ...]
    """Its size along each axis."""
    share: float
    """The share of the input that it covers, 0 to 1."""
    predicted: int
    """Number of the class that is predicted then."""
    probability: float
    """Probability of that class."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"first": list(self.first), "size": list(self.size), "share": self.share}


@dataclass(frozen=True, eq=False)
class Nudge:
    """A small change of the input that changes the prediction."""

    changed: torch.Tensor
    """The changed input (1, …), in normalized units."""
    predicted: int
    """Number of the class that is predicted then."""
    probability: float
    """Probability of that class."""


def smallest_covering(question: Question) -> Covering | None:
    """The smallest rectangle whose blurring changes the prediction; of equally large ones, the one that lowers its
    probability most. Squares have a tenth to seven tenths of each side, and move in steps of a quarter of their own.
    None if no rectangle changes the prediction, and for a table."""
    sides = tuple(question.x.shape[2:])
    if not sides or question.kind == "number":
        return None
    blank = removed(question.x)
    for part in SIZES:
        size = tuple(max(1, round(part * side)) for side in sides)
        firsts = list(product(*(_starts(side, own) for side, own in zip(sides, size, strict=True))))
        taken = torch.zeros(len(firsts), *sides, dtype=torch.bool)
        for row, first in enumerate(firsts):
            window = taken[row]
            for axis, (begin, own) in enumerate(zip(first, size, strict=True)):
                window = window.narrow(axis, begin, own)
            window.fill_(True)
        outputs = [question.outputs(without(question.x, part, blank)) for part in taken.split(_AT_ONCE)]
        probabilities = question.probabilities(torch.cat(outputs))
        predicted = question.predicted(probabilities)
        other = predicted != question.target
        if bool(other.any()):
            left = torch.where(other, probabilities[:, question.target], torch.inf)
            row = int(left.argmin())
            predicted_class = int(predicted[row])
            share = float(taken[row].float().mean())
            return Covering(firsts[row], size, share, predicted_class, float(probabilities[row, predicted_class]))
    return None


def _starts(side: int, size: int) -> list[int]:
    """The positions of a window of this size: at every quarter of it, and at the end."""
    return sorted({*range(0, side - size + 1, max(1, size // 4)), side - size})


def smallest_nudge(
    question: Question, other: int, low: torch.Tensor | None = None, high: torch.Tensor | None = None
) -> Nudge | None:
    """The smallest change, found by gradients, after which class `other` is more probable than the target. Values stay
    between `low` and `high`, if given, of the shape of x or with one number for each channel.

    Each step goes to where the two outputs would be equal if the network were linear, and a little beyond (DeepFool,
    with one other class: Moosavi-Dezfooli et al., CVPR 2016); then bisection shortens the change. None if the gradients
    lead to no such change.
    """
    start = x = question.x.detach()
    for _ in range(_STEPS):
        gap, gradient = _gap(question, x, other)
        if gap < 0:
            break
        square = float(gradient.square().sum())
        if not square > 0:
            return None
        x = _within(x - _BEYOND * (gap + 1e-6) / square * gradient, low, high)
    near, far = 0.0, 1.0
    if _gap_at(question, x, other) >= 0:
        return None
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        near, far = (near, middle) if _gap_at(question, start.lerp(x, middle), other) < 0 else (middle, far)
    return _reached(question, start.lerp(x, far))  # exactly x at 1


def _gap(question: Question, x: torch.Tensor, other: int) -> tuple[float, torch.Tensor]:
    """By how much the output of the target exceeds that of the other class, and the gradient of this difference."""
    leaf = x.clone().requires_grad_(True)
    outputs = outputs_of(question.module, leaf)[0].float()
    gap = outputs[question.target] - outputs[other]
    (gradient,) = torch.autograd.grad(gap + 0 * leaf.sum(), leaf)
    return float(gap.detach()), torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def _gap_at(question: Question, x: torch.Tensor, other: int) -> float:
    outputs = question.outputs(x)[0]
    return float(outputs[question.target] - outputs[other])


def _within(x: torch.Tensor, low: torch.Tensor | None, high: torch.Tensor | None) -> torch.Tensor:
    return x if low is None or high is None else torch.minimum(torch.maximum(x, low), high)


def _reached(question: Question, x: torch.Tensor) -> Nudge:
    outputs = question.outputs(x)
    predicted_class = int(outputs[0].argmax())  # nearly equal outputs have equal probabilities
    return Nudge(x, predicted_class, float(question.probabilities(outputs)[0, predicted_class]))
