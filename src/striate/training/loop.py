"""The training loop, from the first step to the last, as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter

import torch
from torch import nn

from striate.data.augment import draw_warp
from striate.data.counter_random import hash_key
from striate.data.dataset import Split
from striate.data.loader import Batch, batch_bounds, batches, epoch_order
from striate.data.normalize import Normalize
from striate.tasks.protocol import Task
from striate.training.config import Config
from striate.training.events import EpochDone, EpochRow, Event, StepDone
from striate.training.nonfinite import refuse_nonfinite, refuse_nonfinite_epoch
from striate.training.optimizers import set_learning_rate
from striate.training.schedules import learning_rate_factor
from striate.training.state import TrainingState


def training_events(
    state: TrainingState, task: Task, splits: dict[str, Split], config: Config, normalize: Normalize
) -> Iterator[Event]:
    """Train from `state` to the end of the budget, saying each step and epoch.

    `splits` lie on the device of the network; `config` is fully decided. Between two events `state` is whole: it
    can be saved, and a run that goes on from there ends with the same bits. Raises NonFiniteLoss.
    """
    module, optimizer, train = state.module, state.optimizer, splits["train"]
    steps, batch_size, peak = config.budget.steps, config.batch, config.optim.lr
    assert steps is not None and batch_size is not None and peak is not None, "recipes decide all three"
    steps_per_epoch = len(batch_bounds(len(train), batch_size))
    epochs = -(-steps // steps_per_epoch)

    for epoch in range(len(state.history), epochs):
        order = epoch_order(len(train), config.seed, epoch)
        before = epoch * steps_per_epoch
        started = perf_counter()
        for batch in batches(train, batch_size, order=order, first=state.step - before, stop=steps - before):
            lr = peak * learning_rate_factor(config.schedule, state.step, steps)
            set_learning_rate(optimizer, lr)
            torch.manual_seed(hash_key(config.seed, state.step, 2))  # dropout masks: a function of the step
            module.train()

            inputs, targets = augmented(batch, task, config, epoch)
            inputs = to_memory_format(normalize(inputs), config)
            with autocast(config, inputs.device):
                outputs = module(inputs)
                loss = task.loss(outputs, targets)
            refuse_nonfinite(loss, module, inputs, state.step + 1, epoch + 1, lr)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

            tally = task.tally(outputs.detach(), targets)
            state.tally = tally if state.tally is None else state.tally + tally
            state.step += 1
            state.epoch_samples += len(batch.ids)
            state.epoch_seconds += perf_counter() - started
            yield StepDone(state.step, steps, epoch + 1, loss.detach(), lr, len(batch.ids))
            started = perf_counter()

        yield close_epoch(state, task, splits, config, normalize, epoch, epochs)


def augmented(batch: Batch, task: Task, config: Config, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of a training batch, moved by this epoch's warp of each sample."""
    warp = draw_warp(config.augment, config.seed, epoch, batch.ids)
    if warp is None:
        return batch.inputs, batch.targets
    return warp.apply(batch.inputs), task.warp_targets(batch.targets, warp)


def close_epoch(
    state: TrainingState,
    task: Task,
    splits: dict[str, Split],
    config: Config,
    normalize: Normalize,
    epoch: int,
    epochs: int,
) -> EpochDone:
    """Measure the validation split, write the epoch's row into the state and start the next tally."""
    assert state.tally is not None, "an epoch has at least one step"
    val = validate(state.module, task, splits["val"], config, normalize)
    lr = state.optimizer.param_groups[0]["lr"]
    row = EpochRow(
        epoch + 1, state.step, lr, task.summarize(state.tally), val, state.epoch_seconds, state.epoch_samples
    )
    refuse_nonfinite_epoch(row)
    score = task.score(val)
    best = state.best_score is None or score >= state.best_score
    state.best_score = score if best else state.best_score
    state.history.append(row)
    state.tally, state.epoch_seconds, state.epoch_samples = None, 0.0, 0
    return EpochDone(row, epochs, best, finished=epoch + 1 == epochs)


@torch.no_grad()
def validate(module: nn.Module, task: Task, split: Split, config: Config, normalize: Normalize) -> dict[str, float]:
    """The task's epoch metrics over a whole split, in eval mode and fp32, as the final evaluation measures them."""
    module.eval()
    total: torch.Tensor | None = None
    for batch in batches(split, 2 * (config.batch or 1)):
        outputs = module(to_memory_format(normalize(batch.inputs), config))
        tally = task.tally(outputs, batch.targets)
        total = tally if total is None else total + tally
    assert total is not None, "a split is never empty"
    return task.summarize(total)


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """The precision of the forward pass: bfloat16 for convolutions and matrix products, or as it is."""
    if config.execution.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def to_memory_format(inputs: torch.Tensor, config: Config) -> torch.Tensor:
    """The batch laid out as the plan says: channels last exists for images and volumes."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    one_channel = inputs.ndim < 2 or inputs.shape[1] == 1  # then both layouts are the same
    if config.execution.memory_format == "channels_last" and inputs.ndim in formats and not one_channel:
        return inputs.contiguous(memory_format=formats[inputs.ndim])
    return inputs
