"""The training loop, from the first step to the last, as it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from time import perf_counter

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.loader import Batch, batches, epoch_order
from striate.data.normalize import Normalize
from striate.data.targets import Targets
from striate.training.config import Config
from striate.training.deadline import InTime
from striate.training.early_stop import training_is_over
from striate.training.epoch_row import epoch_row
from striate.training.events import EpochDone, Event, StepDone
from striate.training.execution import autocast, evaluation_batch, make_scaler, uncompiled, whole_batch_compiled
from striate.training.head_warm_up import training_mode
from striate.training.less_memory import updating, validated, within_memory
from striate.training.measured import Measured
from striate.training.mix import Mix, mix_batch
from striate.training.nonfinite.detect import (
    LossWatch,
    count_skipped,
    looks_each_step,
    mark_nonfinite,
    place_of_step,
    refuse_nonfinite_epoch,
    refuse_nonfinite_step,
    refuse_only_skipped,
)
from striate.training.objective import Objective, Part
from striate.training.optimizers import set_learning_rate
from striate.training.own_rule import own_rule_step
from striate.training.pool_first import pooling_first
from striate.training.prepared_batch import prepared_inputs, to_memory_format
from striate.training.processes.batch_norm import whole_batch_statistics
from striate.training.processes.group import ALONE, Processes
from striate.training.processes.parts import bounds_in_step, measured_batches, part_weight
from striate.training.setup import Setup
from striate.training.state import TrainingState
from striate.training.step_seed import seed_step

_NO_SCALING = torch.amp.GradScaler(enabled=False)


def training_events(
    state: TrainingState,
    objective: Objective,
    splits: Mapping[str, Split],
    config: Config,
    normalize: Normalize,
    processes: Processes = ALONE,
    in_time: InTime | None = None,
) -> Iterator[Event]:
    """Train from `state` to the end of the budget or of patience, or to the target, saying each step and epoch.

    `splits` lie on the device of the network, or are brought there; `config` is fully decided. Between two events
    `state` is whole: it can be saved, and a run that goes on from there ends with the same bits. Where there are
    several `processes`, each takes its part of every batch and has the same state. `in_time` may change the number of
    steps, by `state.elapsed`, which is the reader's to keep. Raises NonFiniteLoss.
    """
    setup = Setup(state, objective, splits, config, normalize, processes, in_time)
    state.begin(objective)
    with training_mode(state.module, config) as set_mode:
        while len(state.history) < setup.epochs:
            if training_is_over(state.history, objective.task, config.budget):
                return
            setup.epoch = len(state.history)
            yield from epoch_steps(setup, set_mode)
            done = yield from validated(setup, close_epoch)
            yield done


def epoch_steps(setup: Setup, set_mode: Callable[[int], None]) -> Iterator[Event]:
    """The steps of an epoch, from that of the state on. `set_mode` puts the network into the mode of a step."""
    state, train = setup.state, setup.splits["train"]
    first, epoch = setup.epoch * setup.steps_per_epoch, setup.epoch + 1
    order = epoch_order(len(train), setup.config.seed, setup.epoch)
    read = partial(batches, train, setup.batch, order=order, part=setup.part)

    def again(step: int) -> Batch:
        (batch,) = read(first=step - first, stop=step - first + 1)
        return batch

    watch = LossWatch(partial(place_of_step, setup, again, step_passes))
    started = perf_counter()
    while state.step < (end := setup.epoch_end):
        for batch in read(first=state.step - first, stop=end - first):
            state.epoch_wait += perf_counter() - started
            lr = setup.learning_rate
            set_learning_rate(state.optimizer, lr)
            set_mode(state.step)
            loss, measured = yield from within_memory(setup, training_step, batch, again)
            state.count_step(measured, batch.whole)
            if not looks_each_step(loss.device):
                watch.add(loss, state.step, epoch, lr, batch.ids, state.fault)
            state.epoch_seconds += perf_counter() - started
            yield StepDone(state.step, setup.steps, epoch, loss, lr, batch.whole)
            changed = setup.in_time.change(setup.config, state.step, state.elapsed) if setup.in_time else None
            if changed is not None:
                setup.config = changed.config
                yield changed
            started = perf_counter()
            if changed is not None and setup.epoch_end != end:
                break
    watch.look()


def training_step(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Measured]:
    """One update of the network from one batch: forward, backward, step. Returns the scalar loss and what is measured.

    A network that learns by its own rule takes another step: `own_rule_step`.
    """
    if setup.config.optim.name == "own-rule":
        return own_rule_step(setup, batch)
    state, config, processes, optimizer = setup.state, setup.config, setup.processes, setup.state.optimizer
    state.scaler = state.scaler or make_scaler(config)
    scaler = state.scaler or _NO_SCALING
    optimizer.zero_grad(set_to_none=True)

    began = perf_counter()
    inputs, passes = step_passes(setup, batch)
    state.epoch_augment += perf_counter() - began

    loss, measured = passes()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    counted = processes.counts(batch.whole)
    processes.sum_gradients(trained, counted=counted)
    if state.scaler is None and not processes.sharded:
        mark_nonfinite(state, trained)
    refuse_nonfinite_step(setup, batch, inputs, loss, passes)

    with updating(config):
        if config.optim.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, config.optim.clip)
        scaler.step(optimizer)
        count_skipped(state)
        scaler.update()
        if state.average is not None:
            state.average.update()
    return processes.summed(loss, measured, counted=counted)


def step_passes(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Callable[[], tuple[torch.Tensor, Measured]]]:
    """The prepared inputs (B, …) of a step, and what takes them `forward_and_backward`, more than once if need be."""
    state, config = setup.state, setup.config
    inputs, targets = prepared_inputs(batch, setup.objective.task, config, setup.normalize, setup.epoch, state.step)
    paste = setup.objective.task.moves_with_image
    inputs, targets, mix = mix_batch(inputs, targets, config.augment, config.seed, state.step, paste=paste)
    return inputs, partial(forward_and_backward, setup, batch, inputs, targets, mix)


def forward_and_backward(
    setup: Setup, batch: Batch, inputs: torch.Tensor, targets: Targets, mix: Mix | None
) -> tuple[torch.Tensor, Measured]:
    """Both passes of a batch; gradients are added up. Returns the scalar loss and what is measured, of this process.

    The batch goes through the network in parts of `execution.micro_batch` samples, whose losses and gradients add up to
    those of the whole, as do those of several processes.
    """
    state, config, processes, samples = setup.state, setup.config, setup.processes, batch.whole
    module, scaler = state.module, state.scaler or _NO_SCALING
    seed_step(setup, inputs.device)
    losses, measured, weight = [], setup.objective.empty(), part_weight(setup.objective.task, targets, batch, processes)
    for first, start, stop in bounds_in_step(batch, config, processes):
        x, y, blend = inputs[start:stop], targets[start:stop], mix and mix.part(start, stop)
        with (
            autocast(config, x.device),
            whole_batch_compiled(config, len(x)),
            pooling_first(module, config.execution),
            whole_batch_statistics(module, processes.divides(samples)),
        ):
            loss, more = setup.objective.training_loss(module, x, y, blend, Part(state.step, first, samples, weight))
        scaler.scale(processes.for_backward(loss, samples)).backward()
        losses.append(loss.detach())
        measured.merge(more)
    return sum(losses[1:], losses[0]), measured


def close_epoch(setup: Setup) -> EpochDone:
    """Measure the validation split, write the epoch's row into the state and start the next tally."""
    state, config, task = setup.state, setup.config, setup.objective.task
    val = validate(state.answering, setup.objective, setup.splits["val"], config, setup.normalize, setup.processes)
    row = epoch_row(setup, val)
    refuse_nonfinite_epoch(row)
    refuse_only_skipped(row, state.step - (state.history[-1].step if state.history else 0))
    score = task.score(val)
    best = state.best_score is None or score >= state.best_score
    state.best_score = score if best else state.best_score
    state.history.append(row)
    state.begin_epoch()
    finished = row.epoch == setup.epochs or training_is_over(state.history, task, config.budget)
    return EpochDone(row, setup.epochs, best or config.keep == "last", finished)


@torch.no_grad()  # not inference mode: a network may keep a tensor of this pass, and training could not use that
def validate(
    module: nn.Module,
    objective: Objective,
    split: Split,
    config: Config,
    normalize: Normalize,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """The epoch metrics over a whole split, in eval mode, at the precision and in the memory format of training; of
    several `processes` each measures some of the batches.

    Modes are put back. The final evaluation may compute in another precision.
    """
    modes, device = [(part, part.training) for part in module.modules()], next(module.parameters()).device
    total = objective.empty()
    try:
        module.eval()
        at_once = evaluation_batch(config)
        for number, batch, counted in measured_batches(split, at_once, processes):
            inputs = to_memory_format(normalize(batch.inputs), config)
            with autocast(config, device), uncompiled(config):
                measured = objective.measure(module, inputs, batch.targets, number)
            if counted:
                total.merge(measured)
    finally:
        for part, training in modes:
            part.training = training
    return processes.joined(total, device).compute()
