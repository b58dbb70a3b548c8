"""The training loop, from the first step to the last, as it happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter

import torch
from torch import nn

from striate.data.augment import augment_batch
from striate.data.counter_random import hash_key
from striate.data.dataset import Split
from striate.data.loader import Batch, batch_bounds, batches, epoch_order
from striate.data.noise import with_noise
from striate.data.normalize import Normalize
from striate.models.learning_rule import OwnRule
from striate.tasks.protocol import Task
from striate.training.config import Config
from striate.training.events import EpochDone, EpochRow, Event, StepDone
from striate.training.execution import evaluation_batch
from striate.training.growing import at_size_of_step
from striate.training.head_first import training_mode
from striate.training.mix import mix_batch
from striate.training.nonfinite import refuse_nonfinite, refuse_nonfinite_epoch
from striate.training.objective import Objective
from striate.training.optimizers import set_learning_rate
from striate.training.patience import training_is_over
from striate.training.schedules import learning_rate_factor
from striate.training.state import TrainingState


def training_events(
    state: TrainingState, objective: Objective, splits: dict[str, Split], config: Config, normalize: Normalize
) -> Iterator[Event]:
    """Train from `state` to the end of the budget or of patience, or to the target, saying each step and epoch.

    `splits` lie on the device of the network; `config` is fully decided. Between two events `state` is whole: it
    can be saved, and a run that goes on from there ends with the same bits. Raises NonFiniteLoss.
    """
    train = splits["train"]
    steps, batch_size, peak = config.budget.steps, config.batch, config.optim.lr
    assert steps is not None and batch_size is not None and peak is not None, "recipes decide all three"
    steps_per_epoch = len(batch_bounds(len(train), batch_size))
    epochs = -(-steps // steps_per_epoch)

    with training_mode(state.module, config) as set_mode:
        for epoch in range(len(state.history), epochs):
            if training_is_over(state.history, objective.task, config.budget):
                return
            order = epoch_order(len(train), config.seed, epoch)
            before = epoch * steps_per_epoch
            started = perf_counter()
            for batch in batches(train, batch_size, order=order, first=state.step - before, stop=steps - before):
                lr = peak * learning_rate_factor(config.schedule, state.step, steps)
                set_learning_rate(state.optimizer, lr)
                seed_step(hash_key(config.seed, state.step, 2), train.inputs.device)
                set_mode(state.step)

                loss, tally = training_step(state, batch, objective, config, normalize, epoch)

                state.tally = tally if state.tally is None else state.tally + tally
                state.step += 1
                state.epoch_samples += len(batch.ids)
                state.epoch_seconds += perf_counter() - started
                yield StepDone(state.step, steps, epoch + 1, loss, lr, len(batch.ids))
                started = perf_counter()

            yield close_epoch(state, objective, splits, config, normalize, epoch, epochs)


def seed_step(seed: int, device: torch.device) -> None:
    """Make dropout masks a function of the step. `torch.manual_seed` does the same for every kind of device there is,
    which takes longer than a step of a small network."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def training_step(
    state: TrainingState, batch: Batch, objective: Objective, config: Config, normalize: Normalize, epoch: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One update of the network from one batch: forward, backward, step. Returns the scalar loss and the tally.

    The batch is computed in parts of `execution.micro_batch` samples, whose gradients are added up. A network that
    learns by its own rule takes another step: `own_rule_step`.
    """
    if config.optim.name == "own-rule":
        return own_rule_step(state, batch, objective, config, normalize, epoch)
    module, optimizer = state.module, state.optimizer
    device = batch.inputs.device
    losses, tallies = [], []
    optimizer.zero_grad(set_to_none=True)
    for number, (part, share) in enumerate(micro_batches(batch, config.execution.micro_batch)):
        inputs, targets = prepared_inputs(part, objective.task, config, normalize, epoch, state.step)
        inputs, targets, mix = mix_batch(inputs, targets, config.augment, config.seed, state.step, number)
        with autocast(config, device):
            loss, tally = objective.training_loss(module, inputs, targets, mix, (state.step, number))
        refuse_nonfinite(loss, module, inputs, state.step + 1, epoch + 1, optimizer.param_groups[-1]["lr"])
        loss = loss if share == 1 else loss * share
        loss.backward()
        losses.append(loss.detach())
        tallies.append(tally)
    if config.optim.clip:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, config.optim.clip)
    optimizer.step()
    if state.average is not None:
        state.average.update_parameters(module)
    return sum(losses[1:], losses[0]), sum(tallies[1:], tallies[0])


def own_rule_step(
    state: TrainingState, batch: Batch, objective: Objective, config: Config, normalize: Normalize, epoch: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One update of the network from one batch by its own rule, without a gradient. Returns the loss that the task
    would have, and the tally, both of the answers before the batch was learned."""
    module, rate = state.module, state.optimizer.param_groups[-1]["lr"]
    assert isinstance(module, OwnRule), "recipes refuse others"
    # Where the number of steps is still to be measured: as at the end, when all layers compute.
    progress = state.step / config.budget.steps if config.budget.steps else 1 - 1e-6
    losses, tallies = [], []
    for part, share in micro_batches(batch, config.execution.micro_batch):
        inputs, targets = prepared_inputs(part, objective.task, config, normalize, epoch, state.step)
        with torch.no_grad():
            loss, tally = objective.training_loss(module, inputs, targets)
        refuse_nonfinite(loss, module, inputs, state.step + 1, epoch + 1, rate)
        module.learn(inputs, targets, rate, progress)
        losses.append(loss * share)
        tallies.append(tally)
    if state.average is not None:
        state.average.update_parameters(module)
    return sum(losses[1:], losses[0]), sum(tallies[1:], tallies[0])


def micro_batches(batch: Batch, size: int | None) -> list[tuple[Batch, float]]:
    """The parts of a batch, each with its share of the samples; the whole where `size` is None or large enough."""
    total = len(batch.ids)
    if size is None or size >= total:
        return [(batch, 1.0)]
    bounds = batch_bounds(total, size)
    return [(Batch(batch.inputs[a:b], batch.targets[a:b], batch.ids[a:b]), (b - a) / total) for a, b in bounds]


def prepared_inputs(
    batch: Batch, task: Task, config: Config, normalize: Normalize, epoch: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A training batch as the network gets it: augmented, as large as it is at this step, standardized, with noise, in
    its memory format; and its targets, moved as the images were."""
    inputs, warp = augment_batch(batch.inputs, config.augment, config.seed, epoch, batch.ids)
    targets = batch.targets if warp is None else task.warp_targets(batch.targets, warp)
    inputs, targets = at_size_of_step(inputs, targets, task, config, step)
    inputs = with_noise(normalize(inputs), config.augment, config.seed, epoch, batch.ids)
    return to_memory_format(inputs, config), targets


def close_epoch(
    state: TrainingState,
    objective: Objective,
    splits: dict[str, Split],
    config: Config,
    normalize: Normalize,
    epoch: int,
    epochs: int,
) -> EpochDone:
    """Measure the validation split, write the epoch's row into the state and start the next tally."""
    assert state.tally is not None, "an epoch has at least one step"
    task = objective.task
    val = validate(state.answering, objective, splits["val"], config, normalize)
    lr, train = state.optimizer.param_groups[-1]["lr"], objective.summarize(state.tally)
    row = EpochRow(epoch + 1, state.step, lr, train, val, state.epoch_seconds, state.epoch_samples)
    refuse_nonfinite_epoch(row)
    score = task.score(val)
    best = state.best_score is None or score >= state.best_score
    state.best_score = score if best else state.best_score
    state.history.append(row)
    state.tally, state.epoch_seconds, state.epoch_samples = None, 0.0, 0
    finished = epoch + 1 == epochs or training_is_over(state.history, task, config.budget)
    return EpochDone(row, epochs, best or config.keep == "last", finished)


@torch.no_grad()
def validate(
    module: nn.Module, objective: Objective, split: Split, config: Config, normalize: Normalize
) -> dict[str, float]:
    """The epoch metrics over a whole split, in eval mode and fp32, as the final evaluation measures them."""
    module.eval()
    total: torch.Tensor | None = None
    for number, batch in enumerate(batches(split, evaluation_batch(config))):
        tally = objective.tally(module, to_memory_format(normalize(batch.inputs), config), batch.targets, number)
        total = tally if total is None else total + tally
    assert total is not None, "a split is never empty"
    return objective.summarize(total)


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
