"""The training loop, from the first step to the last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.loader import Batch
from striate.data.normalize import Normalize
from striate.training.config import Config
from striate.training.early_stop import training_is_over
from striate.training.events import EpochDone, EpochRow, Event, StepDone
from striate.training.execution import autocast, evaluation_batch, uncompiled
from striate.training.guards import guarded, retried_epoch_end, within_deadline
from striate.training.head_warm_up import training_mode
from striate.training.measured import Measured, watched_part
from striate.training.nonfinite.detect import refuse_nonfinite_epoch, refuse_only_skipped
from striate.training.objective import Objective
from striate.training.optimizers import set_learning_rate
from striate.training.prepared_batch import to_memory_format
from striate.training.processes.fixed_parts import in_fixed_parts, in_order
from striate.training.processes.group import ALONE, Processes, measured_batches
from striate.training.setup import ChangesSteps, Setup
from striate.training.state import TrainingState
from striate.training.step import prepare_passes, training_step


def training_events(
    state: TrainingState,
    objective: Objective,
    splits: Mapping[str, Split],
    config: Config,
    normalize: Normalize,
    processes: Processes = ALONE,
    deadline: ChangesSteps | None = None,
) -> Iterator[Event]:
    """Train from `state` until the budget or patience ends or the target is reached; yield every step and epoch.

    `splits` may lie on the host; batches are moved to the device of the network. `config` is fully decided. Between two
    events `state` is complete: it can be saved, and a run resumed from there ends with the same bits. With several
    `processes`, each computes its part of every batch and has the same state. `deadline` may change the number of
    steps; it uses `state.elapsed`, which the reader of the events keeps up to date. Raises NonFiniteLoss,
    TrainingError.
    """
    setup = Setup(state, objective, splits, config, normalize, processes, deadline)
    guarded_step = guarded(training_step, prepare_passes)
    state.begin(objective)
    with training_mode(state.module, config) as set_mode:
        while len(state.history) < setup.epochs and not training_is_over(state.history, objective.task, config.budget):
            setup.epoch = len(state.history)
            for batch in epoch_batches(setup):
                lr = setup.learning_rate
                set_learning_rate(state.optimizer, lr)
                set_mode(state.step)
                loss, measured = yield from guarded_step(setup, batch)
                state.count_step(measured, batch.full_size)
                yield StepDone(state.step, setup.steps, setup.epoch + 1, loss, lr, batch.full_size)
                yield from within_deadline(setup)
            yield from retried_epoch_end(setup, close_epoch)


def epoch_batches(setup: Setup) -> Iterator[Batch]:
    """The batches of the epoch from the state's step on. The time of waiting for each counts as time of the epoch."""
    state = setup.state
    while state.step < (end := setup.epoch_end):
        budget, started = setup.config.budget, perf_counter()
        for batch in setup.batches(state.step, end):
            waited = perf_counter() - started
            state.epoch_wait += waited
            state.epoch_seconds += waited
            yield batch
            if setup.config.budget is not budget and setup.epoch_end != end:
                break
            started = perf_counter()


def close_epoch(setup: Setup) -> EpochDone:
    """Measure the validation split, append the row of the epoch to the history, and start the next epoch's sums."""
    state, config, task = setup.state, setup.config, setup.objective.task
    part = watched_part(setup.splits["val"], config)
    val = validate(state.eval_module, setup.objective, part, config, setup.normalize, setup.processes)
    row = epoch_row(setup, val)
    refuse_nonfinite_epoch(row)
    refuse_only_skipped(row, state.step - (state.history[-1].step if state.history else 0))
    score = task.score(val)
    best = state.best_score is None or score >= state.best_score
    state.best_score = score if best else state.best_score
    state.history.append(row)
    state.begin_epoch()
    finished = row.epoch == setup.epochs or training_is_over(state.history, task, config.budget)
    passes, epochs = state.step / setup.epoch_steps, setup.steps / setup.epoch_steps
    return EpochDone(row, passes, epochs, best or config.keep == "last", finished)


def epoch_row(setup: Setup, val: dict[str, float]) -> EpochRow:
    """The row of the epoch: the sums of the state, and the metrics `val` of the validation."""
    state, seconds = setup.state, setup.state.epoch_seconds
    assert isinstance(state.tally, Measured), "an epoch has at least one step"
    return EpochRow(
        epoch=setup.epoch + 1,
        step=state.step,
        lr=state.optimizer.param_groups[-1]["lr"],
        train=state.tally.compute(),
        val=val,
        seconds=seconds,
        samples=state.epoch_samples,
        data_wait=state.epoch_wait / seconds,
        augment_share=state.epoch_augment / seconds if setup.config.execution.device == "cpu" else None,
        skipped_steps=None if state.skipped is None else int(state.skipped),
    )


@torch.no_grad()  # not inference mode: training could not use a tensor that the network stores here
def validate(
    module: nn.Module,
    objective: Objective,
    split: Split,
    config: Config,
    normalize: Normalize,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """The epoch metrics of a split, in eval mode, at the precision and in the memory format of training; with several
    `processes`, each measures some of the batches.

    Modes are put back. The final evaluation may use another precision.
    """
    modes, device = [(part, part.training) for part in module.modules()], next(module.parameters()).device
    total, found = objective.empty(), list[Measured]()
    try:
        module.eval()
        at_once = evaluation_batch(config)
        for number, batch, counted in measured_batches(split, at_once, processes):
            inputs = to_memory_format(normalize(batch.inputs), config)
            with autocast(config, device), uncompiled(config):
                measured = objective.measure(module, inputs, batch.targets, number)
            if counted and in_fixed_parts(config):
                found.append(measured)
            elif counted:
                total.merge(measured)
    finally:
        for part, training in modes:
            part.training = training
    if in_fixed_parts(config):
        return in_order(processes, found, objective.empty).compute()
    return processes.joined(total, device).compute()
