"""Constants by which data sets of one class normalize samples, such as mean and standard deviation, that differ between
training and validation or testing."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.data.shift.unprepared_evaluation import unprepared_call
from striate.doctor.checks.data.splits.overlap.named_parts import named_pairs
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.reached_objects import attributes_of, written_by_user
from striate.models.preserved_state import same_random_state
from striate.wording import listed

NEARER, LEAST = 0.5, 0.3
"""The largest ratio of the distances from training after and before a change of constants; and the least distance
before, beyond chance."""
_MOST, _FEWEST, _MOST_NUMBERS, _SAME = 64, 16, 16, 1e-3


def differing_constants(evidence: Evidence, known: torch.Tensor) -> str:
    """The measured difference if the validation data set has other constants than the training data set, and with those
    of training its samples would only change in scale, and be much nearer to training; else empty."""
    if evidence.setup.source is not None and unprepared_call(evidence) is None:
        return ""  # an evaluation may normalize what the data set does not
    train, val = (getattr(loader, "dataset", None) for loader in (evidence.setup.train, evidence.setup.val))
    return _compared(train, val, known, "the validation data set")


def differing_test_constants(evidence: Evidence, known: torch.Tensor) -> str:
    """The same for a data set for testing, if validation has the constants of training. Data sets are those of
    variables, and of attributes of the user's objects, that have the name of the training data set with another word
    for "train"."""
    train, val = (getattr(loader, "dataset", None) for loader in (evidence.setup.train, evidence.setup.val))
    source = evidence.setup.source
    if source is None or type(train) is not type(val) or train is val or _other_constants(train, val):
        return ""
    names = source.outer_names
    held = (attributes_of(value) for value in list(names.values()) if written_by_user(type(value).__module__))
    for _, one, name, other in (pair for scope in (names, *held) for pair in named_pairs(scope)):
        if getattr(one, "dataset", one) is train:
            found = _compared(train, getattr(other, "dataset", other), known, f"the data set of `{name}`")
            if found:
                return found
    return ""


def _other_constants(train: Any, other: Any) -> dict[str, Any]:
    """The constants of the training data set that differ in another data set."""
    own, training = attributes_of(other), attributes_of(train)
    return {name: training[name] for name in own if name in training and _differ(own[name], training[name])}


def _compared(train: Any, val: Any, known: torch.Tensor, subject: str) -> str:
    """The measured difference of two data sets of one class; empty if there is none."""
    if type(train) is not type(val) or train is val or not written_by_user(type(val).__module__):
        return ""
    others = _other_constants(train, val)
    if not others:
        return ""
    prepared = copy.copy(val)
    for name, value in others.items():
        object.__setattr__(prepared, name, value)
    before, after = _read(val), _read(prepared)
    if before is None or after is None or before.shape != after.shape or before.shape[1:] != known.shape[1:]:
        return ""
    if not torch.allclose(_scaled(before), _scaled(after), atol=_SAME):
        return ""
    gap, left = _distance(known, before), _distance(known, after)
    if gap < LEAST or left > NEARER * gap:
        return ""
    named = listed([f"`{name}`" for name in others])
    return (
        f"{subject} has its own {named}; with those of training, its samples would change from "
        f"{_statistics(before)} to {_statistics(after)}, and training has {_statistics(known)}"
    )


def _differ(one: Any, other: Any) -> bool:
    """Whether both are a few floating-point numbers, and not equal."""
    if not all(isinstance(value, float | np.floating | np.ndarray | torch.Tensor) for value in (one, other)):
        return False
    if any(isinstance(value, np.ndarray) and value.dtype.kind != "f" for value in (one, other)):
        return False
    a, b = (torch.as_tensor(value).detach().cpu() for value in (one, other))
    few = all(values.is_floating_point() and values.numel() <= _MOST_NUMBERS for values in (a, b))
    return few and (a.shape != b.shape or not torch.equal(a.double(), b.double()))


def _read(data: Any) -> torch.Tensor | None:
    with same_random_state(), suppress(Exception):  # the user's data set may fail with the other constants
        found = [main_tensor(parts(data[number])[0]) for number in range(min(_MOST, len(data)))]
        known = [one.double() for one in found if one is not None and one.is_floating_point()]
        return torch.stack(known) if len(known) == len(found) >= _FEWEST else None
    return None


def _scaled(x: torch.Tensor) -> torch.Tensor:
    """Samples standardized by position, whatever their scale."""
    return (x - x.mean(0)) / x.std(0).clamp(min=1e-9)


def _distance(known: torch.Tensor, x: torch.Tensor) -> float:
    """The mean distance of channels or columns from those of training: of means in standard deviations, plus that of
    the logarithms of standard deviations."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    mean, other = known.double().mean(axes), x.mean(axes)
    deviation, own = (part.double().std(axes).clamp(min=1e-9) for part in (known, x))
    return float(((mean - other).abs() / deviation + (own / deviation).log().abs()).mean())


def _statistics(x: torch.Tensor) -> str:
    return f"mean {float(x.double().mean()):.3g} and standard deviation {float(x.double().std()):.3g}"
