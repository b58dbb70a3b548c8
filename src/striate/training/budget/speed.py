"""From minutes to steps: how many fit, measured on copies before the run starts."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import cast

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.loader import batch_bounds
from striate.data.normalize import Normalize
from striate.machine.load import python_slowdown
from striate.machine.memory import in_halves
from striate.models.preserved_state import copied
from striate.tasks.task import Task
from striate.tasks.views import VIEW_COUNTS
from striate.training.average import make_average
from striate.training.budget.pace import Pace, Phase
from striate.training.config import Config
from striate.training.events import Event, StepDone
from striate.training.execution import evaluation_batch, make_scaler
from striate.training.loop import training_events, validate
from striate.training.measured import measured_count, watched_part
from striate.training.objective import Objective
from striate.training.optimizers import make_optimizer
from striate.training.progressive_resizing import Size, stages
from striate.training.state import TrainingState

_REPORT = 1.45  # seconds for pictures, report and the end of the program, on an idle core of 2.5 GHz
_WARM_UP = 2  # untimed steps: they allocate memory and choose kernels
_FEWEST = 3  # timed steps of a phase
_LONG_STEP = 0.25  # seconds: for longer steps one warm-up step and one timed step are enough
_MOST = 15.0  # seconds that measuring takes at most
_SHARE = 0.04  # of the time that measuring takes
_MANY = 10**9  # steps of a training whose end never comes
_HARMLESS = 1e-12  # learning rate: the time of a step does not depend on it, and at the peak the network may diverge


@dataclass(frozen=True)
class Work:
    """A training about to start, on its device."""

    state: TrainingState
    """The state before the first step."""
    task: Task
    splits: dict[str, Split]
    config: Config
    """The decided configuration."""
    normalize: Normalize
    """From a raw batch to the input of the network."""

    @property
    def full_size(self) -> Size | None:
        """(height, width) of its images; None for other data."""
        inputs = self.splits["train"].inputs
        return (inputs.shape[2], inputs.shape[3]) if inputs.ndim == 4 else None


def steps_for_epochs(epochs: int, samples: int, batch: int) -> int:
    """Optimizer steps of whole epochs."""
    return epochs * len(batch_bounds(samples, batch))


def trial_state(state: TrainingState, config: Config) -> TrainingState:
    """A copy of the state before the first step, for trials. Raises ModelError where the network cannot be copied."""
    module, heads = copied(state.module), copy.deepcopy(state.heads)
    optimizer = make_optimizer(module, config, heads.parameters() if heads is not None else ())
    return TrainingState(module, optimizer, make_average(module, config.optim.ema), heads, make_scaler(config))


def measure_pace(work: Work, seconds: float, *, report: bool = True) -> Pace:
    """How long steps, validation and everything after training take, measured on a copy in at most 4 % of `seconds`
    (but from half a second to 15 seconds). Network and data stay as they are. Without a `report` nothing comes after
    training.

    Steps are measured for each size of images, and for the head warm-up. Raises ModelError for a network that cannot be
    copied.
    """
    config, splits = work.config, work.splits
    assert config.batch is not None
    limit = max(0.5, min(_SHARE * seconds, _MOST))
    trial = trial_state(work.state, config)
    sample_seconds = _seconds_per_sample(work, trial, 0.2 * limit)
    phases, start = [], 0.0
    for share, variant in _variants(work):
        per_step, first = _seconds_per_step(work, variant, 0.8 * limit * share)
        phases.append(Phase(share, per_step))
        start += first if config.execution.compile not in (None, "off") else 0.0
    return Pace(
        tuple(phases),
        sample_seconds * len(watched_part(splits["val"], config)),
        len(batch_bounds(len(splits["train"]), config.batch)),
        start,
        _finish_seconds(sample_seconds * _measured_samples(work)) if report else 0.0,
    )


def _measured_samples(work: Work) -> int:
    """Samples that are measured after training, each view of an image counted."""
    held = sum(len(split) for name, split in work.splits.items() if name != "train")
    views = VIEW_COUNTS[work.config.evaluation.views or "none"]
    return views * (held + measured_count(len(work.splits["train"]), work.config))


def _finish_seconds(evaluation: float) -> float:
    """Seconds after training: all splits are measured once more, and drawing is slower on busy cores."""
    return evaluation + _REPORT * python_slowdown()


def _variants(work: Work) -> Iterator[tuple[float, Config]]:
    """The phases of a training: the share of the steps of each, and a configuration whose first steps are of that
    phase."""
    config, full = work.config, work.full_size
    head = config.fine_tune.head_share or 0.0
    for stage in stages(config.schedule, _MANY, full):
        first, end = stage.first / _MANY, stage.end / _MANY
        size = None if stage.size is None or full is None else max(stage.size) / max(full)
        for low, high, alone in ((first, min(end, head), True), (max(first, head), end, False)):
            if high > low:
                yield high - low, _starting_so(config, size, head_alone=alone)


def _starting_so(config: Config, first_size: float | None, *, head_alone: bool) -> Config:
    local_rule = config.optim.name == "local-rule"  # the work of a local rule depends on what it has learned
    optim = config.optim if local_rule else replace(config.optim, lr=_HARMLESS, other_lr=None)
    schedule = replace(config.schedule, first_size=first_size or 1.0, full_size_from=0.99 if first_size else None)
    return replace(
        config,
        optim=optim,
        schedule=schedule,
        fine_tune=replace(config.fine_tune, head_share=0.99 if head_alone else 0.0),
        budget=replace(config.budget.of(_MANY), patience=0, target=None),
    )


def _seconds_per_sample(work: Work, trial: TrainingState, limit: float) -> float:
    """Seconds to predict and measure a sample: over more and more of the validation split, until one pass takes a
    quarter of `limit`."""
    config, val = work.config, work.splits["val"]
    objective = Objective(work.task, config, trial.heads)
    # The first predictions allocate memory and choose kernels, and are not timed.
    measure = partial(_measure, trial.eval_module, objective, config, work.normalize)
    measure(val.take(torch.arange(min(len(val), 8))))
    count, began = min(len(val), 2 * evaluation_batch(config)), perf_counter()
    while True:
        part = val.take(torch.arange(count)) if count < len(val) else val
        before = perf_counter()
        measure(part)
        seconds = perf_counter() - before
        if seconds >= limit / 4 or before - began >= limit or (count == len(val) and before > began + seconds):
            return seconds / count
        count = min(len(val), 4 * count)


def _measure(module: nn.Module, objective: Objective, config: Config, normalize: Normalize, part: Split) -> None:
    def at_once(samples: int) -> None:
        execution = replace(config.execution, evaluation_batch=samples)
        validate(module, objective, part, replace(config, execution=execution), normalize)

    in_halves(evaluation_batch(config), at_once)


def _seconds_per_step(work: Work, config: Config, limit: float) -> tuple[float, float]:
    """Mean seconds per step after the warm-up, and how much longer the first step took. A local learning rule computes
    ever more of its layers: there the mean over a whole training in few steps."""
    if config.optim.name != "local-rule":
        return _timed_steps(work, config, limit)
    rehearsal = replace(config, budget=config.budget.of(_WARM_UP + _FEWEST))
    per_step, first = _timed_steps(work, rehearsal, limit)
    steps = min(_MANY, max(_WARM_UP + _FEWEST, int(limit / max(per_step, 1e-6))))
    return _timed_steps(work, replace(config, budget=config.budget.of(steps)), limit)[0], first


def _timed_steps(work: Work, config: Config, limit: float) -> tuple[float, float]:
    state = trial_state(work.state, config)
    objective = Objective(work.task, config, state.heads)
    splits = work.splits | {"val": work.splits["val"].take(torch.arange(1))}  # validation is timed separately
    events = cast(Generator[Event, None, None], training_events(state, objective, splits, config, work.normalize))
    times: list[float] = []
    began = before = perf_counter()
    with closing(events):
        for event in events:
            if isinstance(event, StepDone):
                times.append(perf_counter() - before)
                least = 2 if times[-1] > _LONG_STEP else _WARM_UP + _FEWEST
                enough = len(times) >= least and perf_counter() - began >= limit
                if enough or len(times) <= _WARM_UP:
                    before = perf_counter()
                    float(event.loss)  # waits for an accelerator; not at each step, as in training
                    times[-1] += perf_counter() - before
                if enough:
                    break
            before = perf_counter()
    warm = times[_WARM_UP:] or times[1:] or times
    mean = sum(warm) / len(warm)
    return mean, max(0.0, times[0] - mean)
