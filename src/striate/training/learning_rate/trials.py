"""Short trainings on copies that try a learning rate: the range test, constant rates, and trials at one peak rate."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from typing import cast

import torch

from striate.data.dataset import Split, join_splits
from striate.data.loader import batches
from striate.data.targets import Targets
from striate.errors import NonFiniteLoss
from striate.tasks.outputs import Outputs, leaves, map_outputs
from striate.tasks.task import Task
from striate.training.budget.short_trainings import miniature
from striate.training.budget.speed import trial_state
from striate.training.config import Config, ScheduleConfig
from striate.training.events import EpochDone, Event, StepDone
from striate.training.head_warm_up import training_mode
from striate.training.learning_rate.records import Halving, RangePoint, RateTrial
from striate.training.loop import training_events, validate
from striate.training.objective import Objective
from striate.training.optimizers import set_learning_rate
from striate.training.prepare import Prepared
from striate.training.prepared_batch import to_memory_format
from striate.training.setup import Setup
from striate.training.state import TrainingState
from striate.training.step import training_step

_SAMPLES, _VALUES = 2048, 4_000_000  # at most: a mask has a prediction for each pixel
_ITERATIONS = 60


def constant_prediction_loss(task: Task, outputs: Outputs, targets: Targets) -> float:
    """The lowest loss on `targets` of outputs that are the same for every sample (and every pixel of a mask).

    `outputs`: any (N, K, …) of the network, or a tree of such, for their shape. Of the `targets` (M, …), up to 2,048
    are used, fewer for masks.
    """
    known = task.constant_loss(targets)
    if known is not None:
        return known
    numbers = sum(part[0].numel() for part in leaves(outputs))
    targets = targets[: max(1, min(_SAMPLES, _VALUES // numbers))]

    def constant(part: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(1, *part.shape[1:2], *(1 for _ in part.shape[2:]), device=targets.device)
        return zeros.requires_grad_()

    prediction = map_outputs(constant, outputs)

    def expanded() -> Outputs:
        return map_outputs(lambda one, part: one.expand(len(targets), *part.shape[1:]), prediction, outputs)

    optimizer = torch.optim.LBFGS(list(leaves(prediction)), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task.loss(expanded(), targets)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return float(task.loss(expanded(), targets))


_ENOUGH = 200  # validation samples: with fewer, a fifth of the training samples is held out too
_FOLDS = 5
_EXPLODED = 30.0  # times the limit of divergence: no schedule recovers from it
_WORSE = 1.5  # times the loss before training: above it, a training has diverged
_MARGIN = 0.05  # of the constant prediction's loss, added: a pretrained network begins with a loss near 0
_HALVING_STEPS = 40
_LOWEST_HALF = 1e-9
_UNLEARNED = 1.1  # times the loss before training: above it, a constant rate diverges


@dataclass(frozen=True)
class Fold:
    """The samples of one trial."""

    splits: dict[str, Split]
    """`train` to train on, `val` to measure on."""
    start: float
    """Loss on `val` of the untrained network."""
    constant: float
    """Loss on `val` of the best constant prediction."""

    @property
    def divergence(self) -> float:
        """The loss above which a training has diverged."""
        return _WORSE * self.start + _MARGIN * self.constant


def objective_of(prepared: Prepared, config: Config, state: TrainingState) -> Objective:
    """What is minimized, with the auxiliary heads of the copy."""
    return Objective(prepared.task, config, state.heads)


def make_fold(prepared: Prepared, number: int) -> Fold:
    """The validation split; where it is too small to compare rates, with another fifth of the training split for each
    `number`. The test split is never used."""
    splits, config = prepared.splits, prepared.config
    train, val = splits["train"], splits["val"]
    if len(val) < _ENOUGH and len(train) >= 2 * _FOLDS:
        generator = torch.Generator().manual_seed(config.seed + number // _FOLDS)
        order = torch.randperm(len(train), generator=generator)
        held = torch.zeros(len(train), dtype=torch.bool)
        held[order[number % _FOLDS :: _FOLDS]] = True
        train, val = train.take(~held), join_splits([val, train.take(held)])
    state = trial_state(prepared.state, config)
    loss = validate(state.eval_module, objective_of(prepared, config, state), val, config, prepared.normalize)["loss"]
    with torch.no_grad():
        outputs = state.eval_module(to_memory_format(prepared.normalize(val.inputs[:2]), config))
    return Fold({"train": train, "val": val}, loss, constant_prediction_loss(prepared.task, outputs, val.targets))


def run_trial(prepared: Prepared, fold: Fold, lr: float, steps: int, seed: int) -> RateTrial:
    """The requested training on a copy, with `lr` as its peak and its schedule compressed into `steps` steps.

    `seed` is added to the run's: another order of samples and augmentation, from the same weights. The held-out loss is
    that of the epoch that the run would keep. A trial has diverged where the loss is NaN or Inf, or ends clearly above
    its start; it ends early where the loss is 30 times as high.
    """
    config = _trial_config(prepared, lr, steps, seed)
    losses: list[float] = []
    held_out: float | None = None
    try:
        with closing(_events(prepared, fold, config)) as events:
            for event in events:
                if isinstance(event, EpochDone):
                    held_out = event.row.val["loss"] if event.best or held_out is None else held_out
                    continue
                if not isinstance(event, StepDone):
                    continue
                losses.append(float(event.loss))
                if not math.isfinite(losses[-1]) or _mean_end(losses) > _EXPLODED * fold.divergence:
                    return RateTrial(lr, seed, losses[0], losses[-1], None, True)
    except NonFiniteLoss:
        return RateTrial(lr, seed, losses[0] if losses else math.inf, math.inf, None, True)
    diverged = held_out is None or held_out > fold.divergence
    return RateTrial(lr, seed, losses[0], _mean_end(losses), None if diverged else held_out, diverged)


def halve_until_stable(prepared: Prepared, fold: Fold, highest: float) -> tuple[Halving, ...]:
    """Short trainings at a constant rate from the same weights: from `highest` on, halved until one does not diverge.

    Bottou, "Stochastic gradient descent tricks", 2012, section 4.2. The last one does not diverge, unless all down to
    1e-9 do. A training has diverged where the mean loss of its last steps is above that before the first, or NaN or
    Inf.
    """
    done = [_constant_rate(prepared, fold, highest)]
    while done[-1].diverged and done[-1].lr >= _LOWEST_HALF:
        done.append(_constant_rate(prepared, fold, done[-1].lr / 2))
    return tuple(done)


def _constant_rate(prepared: Prepared, fold: Fold, lr: float) -> Halving:
    config = _trial_config(prepared, lr, _HALVING_STEPS, 0)
    config = replace(config, schedule=ScheduleConfig("constant"))
    losses: list[float] = []
    try:
        with closing(_events(prepared, fold, config)) as events:
            for event in events:
                if isinstance(event, StepDone):
                    losses.append(float(event.loss))
                    if not losses[-1] <= _EXPLODED * fold.divergence or event.step == event.steps:
                        break  # before the last validation, which is not needed
    except NonFiniteLoss:
        return Halving(lr, losses[0] if losses else math.inf, math.inf, True)
    end = _mean_end(losses)
    limit = _UNLEARNED * max(losses[0], fold.start) + _MARGIN * fold.constant
    return Halving(lr, losses[0], end, not end <= limit)


def _trial_config(prepared: Prepared, lr: float, steps: int, seed: int) -> Config:
    return miniature(prepared.config, steps, lr=lr, seed=seed, table=prepared.data.medium.flat)


def _events(prepared: Prepared, fold: Fold, config: Config) -> Generator[Event, None, None]:
    state = trial_state(prepared.state, config)
    objective = objective_of(prepared, config, state)
    events = training_events(state, objective, fold.splits, config, prepared.normalize)
    return cast(Generator[Event, None, None], events)


def _mean_end(losses: list[float]) -> float:
    """The mean over the last tenth, at least five."""
    end = losses[-max(5, len(losses) // 10) :]
    return sum(end) / len(end)


LOWEST, HIGHEST = 1e-7, 10.0
"""The first and the last rate; the last is higher for optimizers with high usual rates."""
_STEPS = 100
_ABOVE_USUAL = 1000.0  # times the configured rate: SGD and LARS are stable at higher rates than AdamW
_SMOOTHING = 0.9
_BLOWN_UP = 3.0  # times the limit of divergence


def range_test(prepared: Prepared, fold: Fold, steps: int = _STEPS) -> tuple[RangePoint, ...]:
    """Train a copy for at most `steps` steps with a rate that grows by the same factor from step to step.

    Smith, "Cyclical learning rates for training neural networks", 2015, with an exponential rate. The loss is smoothed
    exponentially, corrected for its start. The test ends where the smoothed loss is three times the limit of
    divergence, or the loss is NaN or Inf. The network stays as it is.
    """
    config, train = prepared.config, fold.splits["train"]
    # The head alone is stable at rates at which the whole network is not.
    config = replace(config, fine_tune=replace(config.fine_tune, head_share=0.0))
    batch_size, usual = config.batch, config.optim.lr
    assert batch_size is not None and usual is not None, "recipes decide both"
    growth = (max(HIGHEST, _ABOVE_USUAL * usual) / LOWEST) ** (1 / (steps - 1))
    state = trial_state(prepared.state, config)
    setup = Setup(state, objective_of(prepared, config, state), fold.splits, config, prepared.normalize)
    points: list[RangePoint] = []
    average = 0.0
    with training_mode(state.module, config) as set_mode:
        for epoch in count():
            setup.epoch, order = epoch, prepared.task.epoch_order(train.targets, config.seed, epoch)
            for batch in batches(train, batch_size, order=order):
                lr = LOWEST * growth ** len(points)
                set_learning_rate(state.optimizer, lr)
                set_mode(state.step)
                try:
                    loss = float(training_step(setup, batch)[0])
                except NonFiniteLoss:
                    return tuple(points)
                if not math.isfinite(loss):  # on an accelerator, the step itself does not check
                    return tuple(points)
                state.step += 1
                average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
                points.append(RangePoint(lr, loss, average / (1 - _SMOOTHING ** (len(points) + 1))))
                if len(points) == steps or points[-1].smoothed > _BLOWN_UP * fold.divergence:
                    return tuple(points)
    raise AssertionError("count() never ends")
