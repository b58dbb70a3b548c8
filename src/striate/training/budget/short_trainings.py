"""Whole trainings in a few hundredths of the steps, on copies: the outcome of a long training is extrapolated from
them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from time import perf_counter
from typing import cast

import torch

from striate.data.augment.augment import describe_augmentation, draw_augmentation
from striate.data.loader import batch_bounds
from striate.errors import NonFiniteLoss
from striate.training.budget.forecast import ShortTraining, extrapolate
from striate.training.budget.pace import Pace
from striate.training.budget.speed import Work, trial_state
from striate.training.config import Config
from striate.training.events import EpochDone, Event
from striate.training.loop import training_events
from striate.training.objective import Objective
from striate.training.recipes.standard import weight_decay

_LEAST_AVERAGE = 0.5  # decay of a moving average: with less, it nearly equals the last weights


def miniature(config: Config, steps: int, *, lr: float, seed: int = 0, table: bool = False) -> Config:
    """The same training in `steps` steps with the peak rate `lr`; `seed` is added to the run's. No early end."""
    optim = replace(config.optim, lr=lr)
    if "optim.weight_decay" in config.decided:  # as a run with this rate would decide it
        run_steps = config.budget.steps or steps
        optim = replace(optim, weight_decay=weight_decay(optim.name or "adamw", lr, run_steps, table=table))
    # The average over the last hundred of ten thousand steps becomes one over the last step of a hundred.
    shrunk = (config.optim.ema or 0.0) ** max(1.0, (config.budget.steps or steps) / steps)
    return replace(
        config,
        seed=(config.seed + seed) % 2**32,
        optim=replace(optim, ema=shrunk if shrunk > _LEAST_AVERAGE else 0.0),
        budget=replace(config.budget.of(steps), patience=0, target=None),
    )


_FRACTIONS = (1, 2, 4)  # of the longest short training
_FEWEST = 4  # steps: fewer teach nothing
_NEAR_CHANCE = 0.75  # of the error of guessing: above, the training has learned too little to extrapolate from


def run_short_trainings(work: Work, pace: Pace, seconds: float) -> tuple[ShortTraining, ...]:
    """Whole trainings of n/4, n/2 and n steps, with n as large as fits into `seconds`; fewer where time runs out, none
    where fewer than four steps fit. Only for tasks with an accuracy. Raises ModelError for a network that cannot be
    copied."""
    began = perf_counter()
    longest = int((seconds - len(_FRACTIONS) * pace.validation) / (pace.step_seconds * sum(1 / f for f in _FRACTIONS)))
    done: list[ShortTraining] = []
    for fraction in reversed(_FRACTIONS):
        steps = longest // fraction
        left = seconds - (perf_counter() - began)
        if steps < _FEWEST or pace.seconds_before(steps, steps) > 1.5 * left:
            continue
        error = _error_after(work, steps)
        done += [ShortTraining(steps, error)] if error is not None else []
    return tuple(done)


def forecast_accuracy(work: Work, short: Sequence[ShortTraining], steps: int) -> tuple[float, float, float]:
    """Accuracy after `steps` steps of this training: low, expected, high."""
    samples, batch, augment = len(work.splits["train"]), work.config.batch or 1, work.config.augment
    channels, *sides = work.splits["train"].inputs.shape[1:]
    shape = (channels, *sides[-2:])  # of a clip that of a frame
    drawn = draw_augmentation(augment, 0, 0, torch.zeros(1, dtype=torch.long), shape) if len(shape) == 3 else None
    varied = drawn is not None or bool(augment.noise or augment.mixup or augment.cutmix)
    varied = varied or (len(shape) == 4 and bool(describe_augmentation(augment, shape)))
    return extrapolate(short, steps, _chance_error(work), epoch_steps=len(batch_bounds(samples, batch)), varied=varied)


def can_extrapolate(work: Work, short: Sequence[ShortTraining]) -> bool:
    """Whether an extrapolation is possible: from at least two trainings, the longest of which is clearly better than
    guessing."""
    return len(short) >= 2 and short[-1].error <= _NEAR_CHANCE * _chance_error(work)


def _chance_error(work: Work) -> float:
    """The error of guessing among equally frequent classes."""
    return 1 - 1 / max(2, work.task.outputs)


def _error_after(work: Work, steps: int) -> float | None:
    """The share of wrong predictions on validation after `steps` steps; None where the training diverged."""
    config = work.config
    assert config.optim.lr is not None, "recipes decide it"
    short = miniature(config, steps, lr=config.optim.lr, table=work.full_size is None)
    state = trial_state(work.state, short)
    events = training_events(state, Objective(work.task, short, state.heads), work.splits, short, work.normalize)
    error: float | None = None
    try:
        with closing(cast(Generator[Event, None, None], events)) as running:
            for event in running:
                if isinstance(event, EpochDone):
                    error = 1 - event.row.val["accuracy"]
    except NonFiniteLoss:
        return None
    return error
