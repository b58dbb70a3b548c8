"""Inputs that are shifted, such as a spectrum along frequency, while targets with positions along that axis stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache

import torch
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, IterableDataset, default_convert

from striate.doctor.checks.data.moved.left_behind import left_behind
from striate.doctor.evidence.calls import watch_calls
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.simple_models import halves, ridge_weights
from striate.doctor.setup.batch import main_tensor, parts
from striate.records import Finding
from striate.wording import several

_SAMPLES, _DRAWS, _STEPS = 24, 3, 3
_SHORTEST, _FEWEST_PLACES = 8, 6
"""The shortest axes of inputs and of targets along which positions are examined."""
_ALIKE, _CLEARLY = 0.8, 0.2
"""The least correlation of two draws once one is shifted, and by how much it exceeds that of the unshifted draws."""
_PREDICTED, _MOVED = 0.5, 0.3
_FEWEST, _MOST, _NUMBERS = 60, 600, 100_000
_PAIRS, _OFTEN = 3, 0.5
Pair = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Shift = tuple[int, int]
"""An axis, counted from the end, and the shift along it."""


def left_when_shifted(evidence: Evidence) -> Finding | None:
    """A finding if augmentation or the step shifts inputs, but not their targets; None if targets move along, or have
    no positions."""
    val = evidence.val_samples
    x, y = val.sole_inputs[:_MOST], _of_places(val.y if val.maps is None else None)
    if y is None or len(x) < _FEWEST or not x.is_floating_point() or max(x[0].numel(), y[0].numel()) > _NUMBERS:
        return None
    goes_along = _ridge_shifts(x, y[: len(x)])
    for who, pairs in (("augmentation of the training data set", _draws), ("training step", _steps)):
        left, moved, shifts = 0, 0, list[str]()
        for one, other, before, after in pairs(evidence):
            shift = _shift(one, other)
            moves = None if shift is None else goes_along(shift)
            if shift is None or moves is None or before.shape != after.shape:
                continue
            axis, places = moves[0]
            if before.numel() > 1 and torch.equal(before, before.roll(places, axis)):
                continue
            stays = torch.equal(before, after)
            left, moved = left + stays, moved + (not stays)
            if stays:
                shifts.append(
                    "for validation shifted like this, predictions of a ridge regression fit targets moved by "
                    f"{places:+d} (correlation {moves[1]:.2f}, with targets that stay {moves[2]:.2f})"
                )
        if left >= max(_PAIRS, _OFTEN * moved):
            return left_behind(
                f"the {who}",
                f"of {several(left + moved, 'sample')} that are shifted, {left:,} keep their targets; {shifts[0]}",
                "inputs shifted in three pairs and a third of all, while targets along their axis stay; predictions "
                f"of a ridge regression for shifted validation correlate by {_PREDICTED:g} with targets that move "
                f"along, and by {_MOVED:g} less with targets that stay",
                "Targets and inputs are at different positions: most targets belong to other inputs.",
                "move targets with their inputs, by the same number of their own positions: `x, y = x.roll(shift * "
                "bins_per_place, -1), y.roll(shift, -1)`",
            )
    return None


def _of_places(y: torch.Tensor | None) -> torch.Tensor | None:
    """Targets (N, …, positions) as float64, with class numbers one-hot; None if there are too few positions."""
    if y is None or y.is_complex():
        return None
    if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
        whole = not y.is_floating_point() and bool(((y >= 0) & (y < _NUMBERS)).all())
        y = one_hot(y.reshape(-1).long(), int(y.max()) + 1) if whole else y
    return y.double() if y.ndim > 1 and max(y.shape[1:]) >= _FEWEST_PLACES else None


def _draws(evidence: Evidence) -> Iterator[Pair]:
    """Pairs of draws of a sample, and their targets."""
    data = getattr(evidence.setup.train, "dataset", None)
    if not isinstance(evidence.setup.train, DataLoader) or isinstance(data, IterableDataset) or data is None:
        return
    for number in range(min(_SAMPLES, len(data))):
        with suppress(Exception):  # a data set of the user's
            draws = [tuple(map(main_tensor, parts(default_convert(data[number])))) for _ in range(_DRAWS)]
            (one, before), *others = draws
            for other, after in others:
                if one is not None and other is not None and before is not None and after is not None:
                    yield one, other, before, after


def _steps(evidence: Evidence) -> Iterator[Pair]:
    """Samples of the loader and inputs of the network, and their targets."""
    for number, batch in enumerate(evidence.train.raw[:_STEPS]):
        inputs, targets = (main_tensor(part) for part in parts(batch))
        calls = evidence.calls if number == 0 else watch_calls(evidence.setup, batch, evidence.clock.until(0.02))
        shown = calls.shown
        if inputs is None or targets is None or shown is None or shown.shape != inputs.shape or not targets.ndim:
            return
        loss_targets = next((call.target for call in calls.losses if call.target.numel() == targets.numel()), None)
        if loss_targets is None or len(targets) != len(inputs) or torch.equal(shown.cpu(), inputs.cpu()):
            return
        yield from zip(
            inputs.cpu(), shown.cpu(), targets.cpu(), loss_targets.cpu().reshape(targets.shape).to(targets), strict=True
        )


def _likeness(one: torch.Tensor, other: torch.Tensor, axis: int) -> torch.Tensor:
    """The correlation of `other` with `one`, rolled by 0, 1, 2, … positions along an axis."""
    products = torch.fft.rfft(one, dim=axis).conj() * torch.fft.rfft(other, dim=axis)
    found = torch.fft.irfft(products, n=one.shape[axis], dim=axis).movedim(axis, 0).reshape(one.shape[axis], -1).sum(1)
    likeness: torch.Tensor = found / (one.norm() * other.norm()).clamp_min(1e-12)
    return likeness


def _shift(one: torch.Tensor, other: torch.Tensor) -> Shift | None:
    """The shift between two draws of a sample, if it is clear and along one axis; else None."""
    if one.shape != other.shape or not one.is_floating_point() or torch.equal(one, other):
        return None
    one, other = (part.double() - part.double().mean() for part in (one, other))
    for axis in range(-one.ndim, 0):
        if one.shape[axis] >= _SHORTEST:
            found = _likeness(one, other, axis)
            places = int(found.argmax())
            if found[places] >= max(_ALIKE, float(found[0]) + _CLEARLY):
                return axis, places if places <= len(found) // 2 else places - len(found)
    return None


def _ridge_shifts(x: torch.Tensor, y: torch.Tensor) -> Callable[[Shift], tuple[Shift, float, float] | None]:
    """A function of a shift of inputs (N, …). It returns the shift of targets (N, …, positions) that fits best, and the
    correlations of the predictions for shifted inputs with shifted and with unshifted targets. It returns None if
    predictions do not correlate with targets, or fit unshifted ones. Predictions are those of a ridge regression,
    fitted to half of the samples, for the other half."""
    known, held_out = halves(len(x))
    mean, targets = x[known].double().mean(0), y - y[known].mean(0)
    seen = (x[known].double() - mean).flatten(1)
    weights = ridge_weights(seen, targets[known].flatten(1))

    @cache
    def predicted_shift(shift: Shift) -> tuple[Shift, float, float] | None:
        axis, places = shift
        shown = (x[held_out].double().roll(places, axis) - mean).flatten(1)
        predicted = (shown @ seen.T @ weights).reshape(targets[held_out].shape)
        axes = [axis for axis in range(-y.ndim + 1, 0) if y.shape[axis] >= _FEWEST_PLACES]
        by_axis = {axis: _likeness(targets[held_out], predicted, axis) for axis in axes}
        along = max(axes, key=lambda axis: float(by_axis[axis].max()))
        found = by_axis[along]
        best = int(found.argmax())
        if found[best] < max(_PREDICTED, float(found[0]) + _MOVED):
            return None
        return (along, best if best <= len(found) // 2 else best - len(found)), float(found[best]), float(found[0])

    return predicted_shift
