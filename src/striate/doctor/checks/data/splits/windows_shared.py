"""`data.leak` of signals and clips: do training windows contain stretches of validation windows?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.splits.overlap.named_parts import named_pairs
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearness import same_in
from striate.records import Finding
from striate.wording import percent, several

_SHARE, _FEWEST, _MOST = 0.2, 5, 64
_TRAINING, _NUMBERS = 4000, 400_000
"""The most training windows that are searched, and the most values in them."""
_STRETCH, _LONGEST, _SHORTEST = 24, 64, 12
_EQUAL, _NOISE, _BY_FORM = 0.8, -0.5, 0.2
_COPIES, _IN_PLACE = 0.5, 0.5
_SAME, _SOME_NOISE = 0.99, -0.3
"""The correlation that is required if less of the signals is noise, and the largest correlation of neighboring second
differences."""
_QUIET = 1e-6
_CLIP_AXES, _PIXELS, _FEWEST_FRAMES, _MOTION = 5, 64, 6, 3.0
"""For clips: axes of a batch, positions that are compared, the fewest frames, and the size from which on a change is
motion, in medians of all changes."""
_VALUES, _MANY_VALUES = 20, 200
"""The fewest different values, and the fewest for short stretches: stretches of binary values may be equal by
chance."""

_FEW_CHANNELS = 8
"""The most channels that are also compared one by one."""

_BY_NUMBER = (
    f"{percent(_SHARE, 0)} of the windows, and {_FEWEST} or more, begin with a stretch of a training window, and half "
    "as many end with one"
)


def _run(evidence: Evidence) -> Iterator[Finding]:
    if (found := next(_of_variables(evidence), None)) is not None:
        yield found
        return
    if _are_copies(evidence.samples.x, evidence.val_samples.x):
        return  # whole samples are in both, which is said of them
    alone = _with_each_channel(evidence.samples.x, evidence.val_samples.x)
    exact = next(filter(None, starmap(_exactly_shared, alone)), None)
    if exact is not None:
        yield _finding(f"{exact} steps that a training window contains with identical values", limit=_BY_NUMBER)
        return
    train, val = (_second_differences(samples.inputs) for samples in (evidence.samples, evidence.val_samples))
    if train.shape[1:] != val.shape[1:]:
        raise NoEvidence("windows of training and validation have different shapes")
    following = (val[:, :, 1:] * val[:, :, :-1]).sum() / val.square().sum().clamp(min=_QUIET)
    if float(following) > _SOME_NOISE:
        raise NoEvidence("the signals have no noise that identifies a recording")
    some = val[torch.linspace(0, len(val) - 1, min(len(val), _MOST)).long().unique()]
    stretch = min(max(_STRETCH, val.shape[2] // 3), _LONGEST, val.shape[2] // 2)
    ends = torch.cat([some[:, :, :stretch], some[:, :, -stretch:]])
    each, turned = (_best_correlation(way, ends).reshape(2, -1) for way in (train, train.flip(2)))
    best, backward = each.amax(0), turned.amax(0)
    clips = evidence.val_samples.inputs.ndim == _CLIP_AXES  # motion is left out: the rest is noise
    equal = _EQUAL if clips or float(following) <= _NOISE else _SAME
    count = int((best > equal).sum())
    if count < max(_FEWEST, _SHARE * len(some)) or int((backward > equal).sum()) > _BY_FORM * count:
        return  # reversed windows match, too: they share a shape, not a moment
    if int((each > equal).sum(1).min()) < count / 4:
        return  # validation starts in training windows, but does not end there: a forecast
    if evidence.val_samples.inputs.ndim == 2:
        begins, ends_alike = (
            _best_correlation(part, end)
            for part, end in zip((train[:, :, :stretch], train[:, :, -stretch:]), ends.chunk(2), strict=True)
        )
        alike = torch.maximum(begins, ends_alike) > equal
        if float(alike[best > equal].double().mean()) > _IN_PLACE:
            return  # at the same place of each window: rows of features, not stretches of a recording
    yield _finding(
        f"{count} of {several(len(some), 'validation window')} begin or end with {stretch} steps that also occur in "
        f"a training window: the noise of both correlates by {float(best[best > equal].median()):.2f}"
    )


def _are_copies(train: torch.Tensor | None, val: torch.Tensor | None) -> bool:
    """Whether most validation samples are equal to whole training samples."""
    if train is None or val is None or train.shape[1:] != val.shape[1:]:
        return False
    return float((same_in(val, train) >= 0).double().mean()) > _COPIES


def _of_variables(evidence: Evidence) -> Iterator[Finding]:
    """A finding for windows (N, time, channels) in variables, if the script has no validation loader."""
    source = None if evidence.setup.val is not None else evidence.setup.source
    for name, value, other, also in () if source is None else named_pairs(source.outer_names):
        parts = [part for part in (value, also) if isinstance(part, torch.Tensor | np.ndarray) and part.ndim == 3]
        if len(parts) == 2:
            exact = _exactly_shared(*(torch.as_tensor(part).detach().cpu() for part in parts))
            if exact is not None:
                measured = f"{exact} steps that a window of `{name}` contains with identical values"
                yield _finding(measured, where=f"`{other}` and `{name}`", limit=_BY_NUMBER)


def _finding(measured: str, where: str = "validation loader", limit: str = "") -> Finding:
    return WINDOWS_SHARED.finding(
        severity="error",
        where=where,
        measured=measured,
        limit=limit,
        why="Overlapping windows were split, not the recordings that they are cut from: validation measures on "
        "stretches that were trained on.",
        remedy="split recordings (patients, days) first, and cut windows from each side afterwards; for one long "
        "recording, validate on its end and leave a gap of one window",
    )


def _exactly_shared(train: torch.Tensor | None, val: torch.Tensor | None) -> str | None:
    """The measured number of validation windows that begin with a stretch of a training window with identical values,
    if about as many end with one (windows that follow the training data only begin in it). Stretches that occur at the
    same position of several windows, such as periods, do not count. None if few do."""
    windows = [_along_time(x) for x in (train, val) if x is not None and x.is_floating_point() and x.ndim in (2, 3)]
    if len(windows) < 2 or windows[0].shape[1:] != windows[1].shape[1:] or windows[0].shape[1] < _SHORTEST:
        return None
    long = min(_STRETCH, windows[0].shape[1] // 2)
    if len(np.unique(windows[1][:_MOST])) < (_VALUES if long >= _SHORTEST else _MANY_VALUES):
        return None
    known: dict[bytes, set[int]] = {}
    again: set[bytes] = set()
    for window in windows[0][: max(_MOST, _NUMBERS // windows[0][0].size)]:
        for place in range(len(window) - long + 1):
            stretch = window[place : place + long].tobytes()
            places = known.setdefault(stretch, set())
            again |= {stretch} if place in places else set()
            places.add(place)
    some = windows[1][:: max(1, len(windows[1]) // _MOST)]
    begins, ends = (
        [window[at] for window in some if float(window[at].std()) > 0] for at in (slice(long), slice(-long, None))
    )
    count, last = (
        sum((key := part.tobytes()) in known and key not in again for part in each) for each in (begins, ends)
    )
    few = min(count, 2 * last) < max(_FEWEST, _SHARE * len(some))
    return None if few else f"{count} of {several(len(some), 'validation window')} begin with {long}"


def _with_each_channel(train: torch.Tensor | None, val: torch.Tensor | None) -> Iterator[tuple[Any, Any]]:
    """Windows of training and validation, and each of a few channels by itself: some may be relative to the end of a
    window, `price - price[-1]`."""
    yield train, val
    if train is not None and val is not None and train.ndim == val.ndim == 3 and train.shape[1:] == val.shape[1:]:
        axis = 1 if train.shape[1] < train.shape[2] else 2
        for channel in range(train.shape[axis] if train.shape[axis] <= _FEW_CHANNELS else 0):
            yield train.select(axis, channel), val.select(axis, channel)


def _along_time(x: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """Windows (N, time, channels) from windows in any order of axes."""
    windows = x[:, :, None] if x.ndim == 2 else x if x.shape[1] >= x.shape[2] else x.transpose(1, 2)
    return np.ascontiguousarray(windows.float().numpy())


def _second_differences(x: torch.Tensor) -> torch.Tensor:
    """(N, channels, time) second differences of signals, or of some positions of clips. Raises NoEvidence for other
    inputs."""
    if x.ndim == _CLIP_AXES and x.is_floating_point():
        return _clip_differences(x)
    if not x.is_floating_point() or x.ndim not in (2, 3):
        raise NoEvidence("the inputs are not windows of signals")
    windows = x[: min(_TRAINING, max(_MOST, _NUMBERS // x[0].numel()))].double()
    windows = windows[:, None] if x.ndim == 2 else windows
    if windows.shape[1] > windows.shape[2]:
        windows = windows.transpose(1, 2)
    if windows.shape[2] < 2 * _STRETCH or len(windows) < _FEWEST or not bool(windows.isfinite().all()):
        raise NoEvidence("the windows are too short or too few")
    return windows.diff(n=2, dim=2).float()


def _clip_differences(x: torch.Tensor) -> torch.Tensor:
    """The same for clips (N, channels, frames, height, width) or (N, frames, channels, height, width), with zeros where
    something moves: motion may be the same in several recordings, but noise is not."""
    time = 2 if x.shape[1] <= 4 or x.shape[1] == x.shape[2] else 1
    clips = x.movedim(time, -1).flatten(1, -2)
    clips = clips[:, torch.linspace(0, clips.shape[1] - 1, min(_PIXELS, clips.shape[1])).long().unique()]
    clips = clips[: min(_TRAINING, max(_MOST, _NUMBERS // clips[0].numel()))].double()
    if clips.shape[2] < _FEWEST_FRAMES or len(clips) < _FEWEST or not bool(clips.isfinite().all()):
        raise NoEvidence("the clips are too short or too few")
    changes = clips.diff(n=2, dim=2)
    usual = float(changes.abs().median())
    if usual <= _QUIET * float(clips.abs().max()):
        raise NoEvidence("the clips have no noise that identifies a recording")
    return changes.where(changes.abs() <= _MOTION * usual, 0.0).float()


def _best_correlation(train: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """(M,) the correlation of each stretch (M, channels, steps) with the most similar stretch of any training
    window."""
    kernels = ends / ends.square().sum((1, 2), keepdim=True).sqrt().clamp(min=_QUIET)
    best = torch.zeros(len(ends))
    for part in train.split(128):
        products = functional.conv1d(part, kernels)
        size = functional.conv1d(part.square(), torch.ones_like(ends[:1])).sqrt().clamp(min=_QUIET)
        best = torch.maximum(best, (products / size).amax((0, 2)))
    return best


WINDOWS_SHARED = Check(
    codes=("data.leak",),
    threshold=f"{percent(_SHARE, 0)} of the windows, and {_FEWEST} or more, begin or end with a third of a window "
    f"(half of a clip) that correlates by more than {_EQUAL:g} ({_SAME:g} if less of it is noise) with a stretch of "
    "training, both differenced twice; not if it also correlates backward, or windows only begin with one",
    run=_run,
    explains="fit.overfit",
)
