"""The training loop, from the first step to the last, as it happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter

import torch
from torch import nn

from striate.data.counter_random import hash_key
from striate.data.dataset import Split
from striate.data.loader import Batch, batch_bounds, batches, epoch_order
from striate.data.normalize import Normalize
from striate.training.config import Config
from striate.training.events import EpochDone, EpochRow, Event, StepDone
from striate.training.execution import autocast, evaluation_batch, make_scaler, uncompiled, whole_batch_compiled
from striate.training.head_first import training_mode
from striate.training.less_memory import KeptBuffers, at_step, only_batch, updating, validated, within_memory
from striate.training.mix import Mix, mix_batch
from striate.training.nonfinite import (
    LossWatch,
    StepFacts,
    count_skipped,
    facts_of,
    looks_each_step,
    mark_nonfinite,
    refuse_nonfinite_epoch,
    refuse_nonfinite_step,
    refuse_only_skipped,
)
from striate.training.nonfinite_place import Place, place_of_nonfinite
from striate.training.objective import Objective, Part
from striate.training.optimizers import set_learning_rate
from striate.training.own_rule import own_rule_step
from striate.training.patience import training_is_over
from striate.training.pool_first import pooling_first
from striate.training.prepared_batch import prepared_inputs, to_memory_format
from striate.training.processes.batch_norm import whole_batch_statistics
from striate.training.processes.group import ALONE, Processes
from striate.training.processes.parts import bounds_in_step, measured_batches, part_weight, whole_for_mixing
from striate.training.schedules import learning_rate_factor
from striate.training.state import TrainingState

_NO_SCALING = torch.amp.GradScaler(enabled=False)


def training_events(
    state: TrainingState,
    objective: Objective,
    splits: dict[str, Split],
    config: Config,
    normalize: Normalize,
    processes: Processes = ALONE,
) -> Iterator[Event]:
    """Train from `state` to the end of the budget or of patience, or to the target, saying each step and epoch.

    `splits` lie on the device of the network, or are brought there; `config` is fully decided. Between two events
    `state` is whole: it can be saved, and a run that goes on from there ends with the same bits. Where there are
    several `processes`, each takes its part of every batch and has the same state. Raises NonFiniteLoss.
    """
    train, device = splits["train"], torch.device(config.execution.device or "cpu")
    steps, batch_size, peak = config.budget.steps, config.batch, config.optim.lr
    assert steps is not None and batch_size is not None and peak is not None, "recipes decide all three"
    steps_per_epoch = len(batch_bounds(len(train), batch_size))
    epochs = -(-steps // steps_per_epoch)
    part = None if not processes.several or whole_for_mixing(config) else processes.part

    buffers = KeptBuffers((state.module, state.heads))

    def take(batch: Batch, config: Config) -> tuple[torch.Tensor, torch.Tensor]:
        return training_step(state, batch, objective, config, normalize, len(state.history), processes)

    def close(config: Config) -> EpochDone:
        return close_epoch(state, objective, splits, config, normalize, len(state.history), epochs, processes)

    with training_mode(state.module, config) as set_mode:
        for epoch in range(len(state.history), epochs):
            if training_is_over(state.history, objective.task, config.budget):
                return
            before = epoch * steps_per_epoch
            read = partial(batches, train, batch_size, order=epoch_order(len(train), config.seed, epoch), part=part)
            watch = LossWatch(partial(place_of_step, state, read, before, objective, config, normalize, epoch))
            started = perf_counter()
            for batch in read(first=state.step - before, stop=steps - before):
                state.epoch_wait += perf_counter() - started
                lr = peak * learning_rate_factor(config.schedule, state.step, steps)
                set_learning_rate(state.optimizer, lr)
                set_mode(state.step)

                # Of several processes, the others would wait for the one that repeats a step.
                again = None if processes.several else partial(only_batch, read, state.step - before)
                loss, tally, config = yield from within_memory(state, take, batch, again, config, buffers)

                state.tally = tally if state.tally is None else state.tally + tally
                state.step += 1
                state.epoch_samples += batch.whole
                if not looks_each_step(device):
                    watch.add(loss, state.step, epoch + 1, lr, batch.ids, state.fault)
                state.epoch_seconds += perf_counter() - started
                yield StepDone(state.step, steps, epoch + 1, loss, lr, batch.whole)
                started = perf_counter()

            watch.look()
            if processes.several:  # the others would go on to measure other batches than one that repeats some
                yield close(config)
                continue
            done, config = yield from validated(state, close, len(splits["val"]), config)
            yield done


def seed_step(seed: int, device: torch.device) -> None:
    """Make dropout masks a function of the step. `torch.manual_seed` does the same for every kind of device there is,
    which takes longer than a step of a small network."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def training_step(
    state: TrainingState,
    batch: Batch,
    objective: Objective,
    config: Config,
    normalize: Normalize,
    epoch: int,
    processes: Processes = ALONE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One update of the network from one batch: forward, backward, step. Returns the scalar loss and the tally.

    The batch goes through the network in parts of `execution.micro_batch` samples, whose losses and gradients add up to
    those of the whole, as do those of several `processes`. A network that learns by its own rule takes another step:
    `own_rule_step`.
    """
    if config.optim.name == "own-rule":
        return own_rule_step(state, batch, objective, config, normalize, epoch)
    optimizer = state.optimizer
    state.scaler = state.scaler or make_scaler(config)
    scaler = state.scaler or _NO_SCALING
    optimizer.zero_grad(set_to_none=True)

    began = perf_counter()
    inputs, targets, mix = step_inputs(state, batch, objective, config, normalize, epoch)
    state.epoch_augment += perf_counter() - began

    add = partial(add_gradients, state, batch, inputs, targets, mix, objective, config, processes)
    loss, tally = add()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    counted = processes.counts(batch.whole)
    processes.sum_gradients(trained, counted=counted)
    if state.scaler is None and not processes.sharded:
        mark_nonfinite(state, trained)
    facts = partial(facts_of, state, epoch, batch.ids)
    refuse_nonfinite_step(state, loss, inputs, add, facts, alone=not processes.several)

    with updating(config):
        if config.optim.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, config.optim.clip)
        scaler.step(optimizer)
        count_skipped(state)
        scaler.update()
        if state.average is not None:
            state.average.update()
    return processes.summed(loss, tally, counted=counted)


def step_inputs(
    state: TrainingState, batch: Batch, objective: Objective, config: Config, normalize: Normalize, epoch: int
) -> tuple[torch.Tensor, torch.Tensor, Mix | None]:
    """What goes into the network in this step, its targets, and how they are blended."""
    inputs, targets = prepared_inputs(batch, objective.task, config, normalize, epoch, state.step)
    return mix_batch(inputs, targets, config.augment, config.seed, state.step)


def add_gradients(
    state: TrainingState,
    batch: Batch,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    mix: Mix | None,
    objective: Objective,
    config: Config,
    processes: Processes,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Forward and backward of a batch, part by part. Returns the scalar loss and the tally, of this process."""
    module, scaler, samples = state.module, state.scaler or _NO_SCALING, batch.whole
    seed_step(hash_key(config.seed, state.step, 2, *([processes.rank] if processes.rank else [])), inputs.device)
    losses, tallies, weight = [], [], part_weight(objective.task, targets, batch, processes)
    for first, start, stop in bounds_in_step(batch, config, processes):
        x, y, blend = inputs[start:stop], targets[start:stop], mix and mix.part(start, stop)
        with (
            autocast(config, x.device),
            whole_batch_compiled(config, len(x)),
            pooling_first(module, config.execution),
            whole_batch_statistics(module, processes.divides(samples)),
        ):
            loss, tally = objective.training_loss(module, x, y, blend, Part(state.step, first, samples, weight))
        scaler.scale(processes.for_backward(loss, samples)).backward()
        losses.append(loss.detach())
        tallies.append(tally)
    return sum(losses[1:], losses[0]), sum(tallies[1:], tallies[0])


def place_of_step(
    state: TrainingState,
    read: Callable[..., Iterator[Batch]],
    before: int,
    objective: Objective,
    config: Config,
    normalize: Normalize,
    epoch: int,
    facts: StepFacts,
) -> Place:
    """Where an earlier step, whose update and all after it were left out, first got a number that is none."""
    if not hasattr(state.optimizer, "found_inf"):
        return Place("looked at later, when the weights have followed: no layer can be named")
    now, state.step = state.step, facts.step - 1
    try:
        batch, config = only_batch(read, state.step - before), at_step(config, state.step)
        inputs, targets, mix = step_inputs(state, batch, objective, config, normalize, epoch)
        add = partial(add_gradients, state, batch, inputs, targets, mix, objective, config, ALONE)
        with uncompiled(config):
            return place_of_nonfinite(state.module, inputs, add)
    finally:
        state.step = now


def close_epoch(
    state: TrainingState,
    objective: Objective,
    splits: dict[str, Split],
    config: Config,
    normalize: Normalize,
    epoch: int,
    epochs: int,
    processes: Processes = ALONE,
) -> EpochDone:
    """Measure the validation split, write the epoch's row into the state and start the next tally."""
    assert state.tally is not None, "an epoch has at least one step"
    task = objective.task
    val = validate(state.answering, objective, splits["val"], config, normalize, processes)
    lr, train = state.optimizer.param_groups[-1]["lr"], objective.summarize(state.tally)
    seconds = state.epoch_seconds
    augment = state.epoch_augment / seconds if config.execution.device == "cpu" else None
    skipped = None if state.skipped is None else int(state.skipped)
    wait, samples = state.epoch_wait / seconds, state.epoch_samples
    row = EpochRow(epoch + 1, state.step, lr, train, val, seconds, samples, wait, augment, skipped)
    refuse_nonfinite_epoch(row)
    refuse_only_skipped(row, state.step - (state.history[-1].step if state.history else 0))
    score = task.score(val)
    best = state.best_score is None or score >= state.best_score
    state.best_score = score if best else state.best_score
    state.history.append(row)
    state.begin_epoch()
    finished = epoch + 1 == epochs or training_is_over(state.history, task, config.budget)
    return EpochDone(row, epochs, best or config.keep == "last", finished)


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
    total: torch.Tensor | None = None
    try:
        module.eval()
        at_once = evaluation_batch(config)
        for number, batch, counted in measured_batches(split, at_once, processes):
            inputs = to_memory_format(normalize(batch.inputs), config)
            with autocast(config, device), uncompiled(config):
                tally = objective.tally(module, inputs, batch.targets, number)
            if counted:
                total = tally if total is None else total + tally
    finally:
        for part, training in modes:
            part.training = training
    return objective.summarize(processes.joined_tally(total, device))
