"""Measure the speed of an exported file and of the run's own network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from striate.data.media.every_medium import medium_of
from striate.exporting.export_format import Runner
from striate.exporting.input_forms import input_form_of
from striate.training.trained import Trained

BATCH = 32
_SECONDS, _LEAST = 0.3, 3
_ENOUGH = 5.0
"""Seconds of calls after which no further call is timed."""


def as_file_input(trained: Trained, raw: torch.Tensor) -> np.ndarray:
    """Raw inputs (N, *input_shape) in the form that an exported file takes; noise for a network of spectrograms."""
    medium = medium_of(trained.preparation.kind)
    if (form := input_form_of(trained.preparation, whole=trained.reads_whole)) is not None:
        return form.samples_of(raw.numpy())
    if not medium.shows_itself:
        return medium.as_in_files(raw.numpy(), trained.preparation)
    return np.ascontiguousarray(np.moveaxis(raw.numpy(), 1, -1))


def measure_speed(trained: Trained, inputs: torch.Tensor, runners: Mapping[str, Runner]) -> dict[str, Any]:
    """`milliseconds` of one input, and `images_per_second` of batches, of each runtime and of plain torch in fp32, for
    inputs of the size of the network."""
    raw = inputs[torch.arange(BATCH) % len(inputs)]
    batch = as_file_input(trained, raw)
    works: dict[str, Callable[[int], object]] = {name: partial(run_first, run, batch) for name, run in runners.items()}
    works["torch"] = lambda count: trained.decode(raw[:count])
    return speeds(works)


def speeds(works: Mapping[str, Callable[[int], object]]) -> dict[str, Any]:
    """The same for any `works`, which compute a number of inputs each; medians."""
    alone = {name: median_seconds(partial(work, 1)) for name, work in works.items()}
    many = {name: median_seconds(partial(work, BATCH)) for name, work in works.items()}
    return {
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "milliseconds": {name: round(1000 * seconds, 3) for name, seconds in alone.items()},
        "images_per_second": {name: round(BATCH / seconds, 1) for name, seconds in many.items()},
    }


def run_first(run: Runner, batch: np.ndarray, count: int) -> object:
    """The outputs for the first `count` inputs of a batch."""
    return run(batch[:count])


def median_seconds(work: Callable[[], object]) -> float:
    """Median seconds of repeated calls, without the first one."""
    work()
    times: list[float] = []
    while sum(times) < _ENOUGH and (len(times) < _LEAST or sum(times) < _SECONDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
