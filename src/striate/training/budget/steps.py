"""How many steps a run takes, from epochs or minutes, and the forecast of what it will reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from striate.account.summarize import count_macs
from striate.data.loader import batch_bounds
from striate.errors import ModelError, StriateError
from striate.models.preserved_state import original_preserved
from striate.tasks.views import VIEW_COUNTS
from striate.training.budget.forecast import Forecast, ShortTraining
from striate.training.budget.pace import AIM, Pace
from striate.training.budget.short_trainings import can_extrapolate, forecast_accuracy, run_short_trainings
from striate.training.budget.speed import Work, measure_pace, steps_for_epochs
from striate.training.config import Config
from striate.training.execution import memory_explained
from striate.training.measured import watched_count
from striate.wording import duration, several

FEWEST_STEPS = 20
"""A run of less than an epoch with fewer optimizer steps counts as not trained."""
_MOST_FINISH = 0.15
"""Where the final evaluation and the report take a larger share of the time, fewer training samples are measured."""
_WORTH_SAVING, _TOO_LITTLE = 0.05, 2.0  # least time that measuring fewer samples has to save: share of all, and seconds
_TELLING = 60.0  # seconds of a run: longer runs get a forecast of their accuracy
_SHORT_SHARE = 0.02  # of the run's time, for the short trainings of the forecast
_SHORT_MOST = 30.0  # seconds for these at most: the user waits for the training to begin
_MEASURED = 30.0  # seconds that a run must roughly take for its speed to be measured
_FEW_STEPS, _LONG_WAIT = 60, 300.0  # a run of fewer steps is measured, which costs three, only if it takes so long
_STEP = 0.002  # seconds of a small step, roughly
_FLOPS = {"cpu": 1e11, "cuda": 2e13}  # per second, roughly: decides whether measuring is worth its time


@dataclass(frozen=True)
class BudgetDecision:
    """The length of a training."""

    config: Config
    """The configuration with its number of steps."""
    pace: Pace | None = None
    """Seconds of steps and validation. None: not measured."""
    forecast: Forecast | None = None
    """What the training will take and reach. None: not measured."""
    notes: tuple[str, ...] = ()
    """What was decided, a sentence each."""
    seconds: float | None = None
    """The deadline of the whole command. None: no minutes were given."""


def decide_budget(work: Work, seconds_spent: Callable[[], float], *, forecast: bool = False) -> BudgetDecision:
    """Fill in `budget.steps` and `budget.epochs`; where minutes are given, so that the command ends within them.

    `seconds_spent` counts from the user's request. `forecast` is for a whole command, which ends with a report: where
    it takes long enough, short trainings in up to 2 % of its time show what it will reach. Without it, the training is
    one of several. The network stays as it is. Raises ModelError where minutes are given and the network cannot be
    copied.
    """
    with original_preserved(work.state.module):
        return _decide_budget(work, seconds_spent, forecast)


def _decide_budget(work: Work, seconds_spent: Callable[[], float], forecast: bool) -> BudgetDecision:
    config = work.config
    budget, batch, samples = config.budget, config.batch, len(work.splits["train"])
    assert batch is not None, "recipes decide it"
    if budget.steps is None and budget.minutes is not None:
        return _for_minutes(work, 60 * budget.minutes, seconds_spent, forecast)
    steps = budget.steps or steps_for_epochs(budget.epochs or 1, samples, batch)
    decided = config if budget.steps is not None else _with_steps(config, steps, samples)
    rough = _rough_seconds(work, steps) if forecast else 0.0
    if rough < (_MEASURED if steps >= _FEW_STEPS else _LONG_WAIT):
        return BudgetDecision(decided)
    try:
        with memory_explained(config):
            pace = measure_pace(work, rough / 4)  # a rough one: only the forecast depends on it
            expected = pace.seconds(steps)
            short = _short_trainings(work, pace, expected) if expected >= _TELLING else ()
    except StriateError:  # the training itself may succeed where a copy fails
        return BudgetDecision(decided)
    return BudgetDecision(decided, pace, _forecast(work, steps, seconds_spent() + expected, short))


def _for_minutes(work: Work, total: float, seconds_spent: Callable[[], float], forecast: bool) -> BudgetDecision:
    samples = len(work.splits["train"])
    pace = measure_pace(work, max(1.0, total - seconds_spent()), report=forecast)
    work, pace, notes = _with_less_evaluation(work, pace, total)
    short: tuple[ShortTraining, ...] = ()
    if forecast and total >= _TELLING:
        with suppress(StriateError):
            steps = pace.steps_within(AIM * total - seconds_spent())
            short = _short_trainings(replace(work, config=_with_steps(work.config, steps, samples)), pace, total)
    spent = seconds_spent()
    steps = pace.steps_within(AIM * total - spent)
    expected = spent + pace.seconds(steps)
    if expected > 1.03 * total:
        notes.append(
            f"{duration(total)} is too short: reading the data, measuring, {several(steps, 'training step')}"
            f" and the report take {duration(expected)}; {_remedy(work, expected)}"
        )
    elif steps < pace.epoch_steps:
        notes.append(_hardly_trains(work, steps, pace, total, spent))
    config = _with_steps(work.config, steps, samples)
    if not forecast:
        return BudgetDecision(config, pace, notes=tuple(notes))
    whole = _forecast(work, steps, expected, short)
    return BudgetDecision(config, pace, whole, tuple(notes), total)


def _with_less_evaluation(work: Work, pace: Pace, total: float) -> tuple[Work, Pace, list[str]]:
    """Measure fewer training samples at the end where that would take a large share of the time: as many as validation
    and test have."""
    samples, val = len(work.splits["train"]), watched_count(len(work.splits["val"]), work.config)
    held = sum(len(split) for name, split in work.splits.items() if name != "train")
    chosen = work.config.evaluation.train_samples is not None
    if chosen or pace.finish <= _MOST_FINISH * total or samples <= held or not val:
        return work, pace, []
    saved = VIEW_COUNTS[work.config.evaluation.views or "none"] * (samples - held) * pace.validation / val
    if saved <= max(_TOO_LITTLE, _WORTH_SAVING * total):
        return work, pace, []
    evaluation = replace(work.config.evaluation, train_samples=held)
    note = (
        f"the final evaluation measures {held:,} of the {several(samples, 'training sample')}, which leaves "
        f"{duration(saved)} for training (--evaluation.train_samples {samples} measures all)"
    )
    config = replace(work.config, evaluation=evaluation)
    return replace(work, config=config), replace(pace, finish=max(0.0, pace.finish - saved)), [note]


def _hardly_trains(work: Work, steps: int, pace: Pace, total: float, spent: float) -> str:
    """The note on a run whose time is too short for one epoch."""
    whole = spent + pace.seconds(12 * pace.epoch_steps)
    cheaper = ", smaller images (--size) or a smaller --model" if work.full_size else " or a smaller --model"
    return (
        f"{steps / pace.epoch_steps:.2g} of an epoch fits into {duration(total)}: the network will"
        f" hardly be trained; 12 epochs take --minutes {math.ceil(whole / 60)}{cheaper}"
    )


def _remedy(work: Work, expected: float) -> str:
    """What leaves time for training where not even a step fits: half as much time again, or a cheaper network or
    images."""
    minutes = math.ceil(15 * expected / 60) / 10
    cheaper = ", and so do smaller images (--size) or a smaller --model" if work.full_size else ""
    return f"--minutes {minutes:g} leaves time for it{cheaper}"


def not_trained(steps: int, passes: float, config: Config) -> str | None:
    """The warning about a run whose minutes left time for hardly any step; None for other runs, also those whose few
    steps were requested."""
    if config.budget.minutes is None or passes >= 1 or steps >= FEWEST_STEPS:
        return None
    return (
        f"NOT TRAINED: {several(steps, 'step')}, {passes:.2g} of an epoch, in"
        f" {duration(60 * config.budget.minutes)}; smaller images (--size), a smaller --model or more --minutes"
    )


def _with_steps(config: Config, steps: int, samples: int) -> Config:
    epochs = -(-steps // len(batch_bounds(samples, config.batch or 1)))
    return replace(config, budget=replace(config.budget.of(steps), epochs=epochs))


def _rough_seconds(work: Work, steps: int) -> float:
    """Seconds of `steps` steps, estimated without measuring: enough to tell minutes from seconds."""
    try:
        macs = count_macs(work.state.module, tuple(work.splits["train"].inputs.shape[1:]))
    except ModelError:
        macs = 0
    kind = torch.device(work.config.execution.device or "cpu").type
    return steps * (_STEP + 6 * macs * (work.config.batch or 1) / _FLOPS.get(kind, _FLOPS["cpu"]))


def _short_trainings(work: Work, pace: Pace, seconds: float) -> tuple[ShortTraining, ...]:
    if work.task.headline != "accuracy" or work.config.optim.name == "local-rule":
        return ()
    return run_short_trainings(work, pace, min(_SHORT_MOST, _SHORT_SHARE * seconds))


def _forecast(work: Work, steps: int, seconds: float, short: tuple[ShortTraining, ...]) -> Forecast:
    if not can_extrapolate(work, short):
        return Forecast(steps, seconds, short_trainings=short)
    low, expected, high = forecast_accuracy(work, short, steps)
    return Forecast(steps, seconds, (low, high), expected, short)
