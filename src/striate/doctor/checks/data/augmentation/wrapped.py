"""Bytes that wrap around: the script casts numbers below 0 or above 255 to eight bits, or computes such numbers in
eight bits, when it reads samples."""

from __future__ import annotations

import linecache
import sys
import types
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.checks.data.augmentation.wrapped_sums import Sums
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import written_by_user
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import percent

_CASTS = ("astype", "to", "type", "byte")
_SAMPLES, _BATCHES, _FEWEST, _ENOUGH = 32, 6, 64, 20_000
_LEAST, _MOST, _VALUES = 0.005, 0.5, 8
"""The share of the numbers cast in a line that is out of range (a larger one is not an image); and the fewest different
values out of range, since -1 may stand for 255 in a class map."""
_MOST_OF_SUM = 0.95
"""The largest share for a sum: half of an image is below its mean."""


def wrapped_around(evidence: Evidence) -> Finding | None:
    """Casts and sums in the user's code whose results wrap around. Their operands are recorded while the data set reads
    some samples, or the loop draws some batches."""
    noted = defaultdict[tuple[str, int], list[torch.Tensor]](list)
    source = evidence.setup.source
    sums = Sums("" if source is None else source.loop[0])

    def note(frame: types.FrameType, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__name__", "") in _CASTS:
            with suppress(Exception):  # in the middle of the user's code
                given = _numbers(function.__self__)
                if given is not None and written_by_user(frame.f_globals.get("__name__")):
                    file = frame.f_code.co_filename
                    file = source.loop[0] if file == "<striate>" and source is not None else file
                    line, text = _called(frame, file)
                    if function.__name__ == "byte" or "uint8" in text[text.rindex(function.__name__) :]:
                        noted[file, line].append(given)

    before, tracing = sys.getprofile(), sys.gettrace()
    with same_random_state(), suppress(Exception):  # a data set of the user's
        sys.setprofile(note)
        sys.settrace(sums.trace)
        try:
            _draw(evidence.setup.train, evidence.clock.until(0.03, 1.0))
        finally:
            sys.settrace(tracing)
            sys.setprofile(before)
    for (file, line), given in noted.items():
        numbers = torch.cat(given)
        outside = numbers[(numbers <= -1) | (numbers >= 256)]
        if _LEAST <= len(outside) / len(numbers) <= _MOST and len(outside.unique()) >= _VALUES:
            return augmentation_finding(
                "loader",
                f"{Path(file).name}, line {line} casts numbers from {float(numbers.min()):.4g} to "
                f"{float(numbers.max()):.4g} to eight bits: {percent(len(outside) / len(numbers))} of them wrap "
                "around, as 260 becomes 4",
                why="Pixels that become a little too bright turn black, and those that become too dark turn white.",
                remedy="clip before the cast: `np.clip(x, 0, 255).astype(np.uint8)`, `x.clamp(0, 255).byte()`",
                threshold=f"{percent(_LEAST)} to {percent(_MOST, 0)} of the numbers that a line casts to eight bits "
                f"are below 0 or above 255, {_VALUES} different ones or more",
                severity="warning",
            )
    for (file, line, text), given in sums.noted.items():
        numbers = torch.cat(given)
        outside = numbers[(numbers < 0) | (numbers > 255)]
        if _LEAST <= len(outside) / len(numbers) <= _MOST_OF_SUM and len(outside.unique()) >= _VALUES:
            return augmentation_finding(
                "loader",
                f"{Path(file).name}, line {line} computes `{text}` in eight bits: the results are from "
                f"{int(numbers.min())} to {int(numbers.max())}, and {percent(len(outside) / len(numbers))} of them "
                "wrap around, as -1 becomes 255",
                why="Pixels that become a little too dark turn white, and those that become too bright turn black.",
                remedy="convert the image first: `image.astype(np.float32) - mean`, `image.float() - mean`",
                threshold=f"{percent(_LEAST)} to {percent(_MOST_OF_SUM, 0)} of the numbers of a sum, difference or "
                f"product in eight bits are below 0 or above 255, {_VALUES} different ones or more",
                severity="warning",
            )
    return None


def _draw(loader: Any, until: float) -> None:
    data: Any = getattr(loader, "dataset", None)
    by_number = isinstance(loader, DataLoader) and not isinstance(data, IterableDataset)
    by_loop = getattr(loader, "repeats_samples", False) is True
    draw = getattr(loader, "draw", None) if by_loop else None
    count = min(_SAMPLES, len(data)) if by_number else _BATCHES if draw is not None else 0
    for number in range(count):
        _ = data[number] if by_number or draw is None else draw()
        if perf_counter() > until:
            return


def _numbers(given: Any) -> torch.Tensor | None:
    """Some values of one image or several, with more than eight bits; None for other objects."""
    if not isinstance(given, np.ndarray | torch.Tensor) or given.ndim < 2 or len(flat := given.reshape(-1)) < _FEWEST:
        return None
    some: Any = flat[:: max(1, len(flat) // _ENOUGH)]
    if isinstance(some, np.ndarray):
        return torch.from_numpy(some.astype(np.float64)) if some.dtype.kind in "if" else None
    return None if some.dtype in (torch.uint8, torch.bool) or some.is_complex() else some.detach().double()


def _called(frame: types.FrameType, file: str) -> tuple[int, str]:
    """The line of the call that a frame executes, and its text."""
    first, last, start, end = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    if first is None or last is None:
        return frame.f_lineno, ""
    lines = [linecache.getline(file, number) for number in range(first, last + 1)]
    lines[-1] = lines[-1].encode()[:end].decode()
    lines[0] = lines[0].encode()[start:].decode()
    return first, "".join(lines)
