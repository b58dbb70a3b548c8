"""One update of a network from one batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
from torch import nn

from striate.data.loader import Batch
from striate.data.targets import Targets
from striate.models.learning_rule import LocalLearningRule
from striate.training.execution import autocast, make_scaler, whole_batch_compiled
from striate.training.guards import seeded_by_step, updating
from striate.training.measured import Measured
from striate.training.nonfinite.detect import count_skipped, refuse_nonfinite_loss, refuse_nonfinite_step
from striate.training.objective import Part
from striate.training.pool_first import pooling_first
from striate.training.prepared_batch import Mix, mix_batch, part_bounds, prepared_inputs
from striate.training.processes.batch_norm import whole_batch_statistics
from striate.training.processes.group import bounds_in_step, part_weight
from striate.training.setup import Setup

Passes = Callable[[], tuple[torch.Tensor, Measured]]
_NO_SCALING = torch.amp.GradScaler(enabled=False)


def training_step(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Measured]:
    """One update of the network from one batch: forward, backward, step. Returns the scalar loss and what is measured.

    A network with a local learning rule takes another step: `local_rule_step`. Raises NonFiniteLoss, TrainingError.
    """
    if setup.config.optim.name == "own-rule":
        return local_rule_step(setup, batch)
    state, config, processes, optimizer = setup.state, setup.config, setup.processes, setup.state.optimizer
    state.scaler = state.scaler or make_scaler(config)
    scaler = state.scaler or _NO_SCALING
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    counted = processes.counts(batch.whole)

    optimizer.zero_grad(set_to_none=True)
    inputs, passes = prepare_passes(setup, batch)
    loss, measured = passes()
    processes.sum_gradients(trained, counted=counted)
    refuse_nonfinite_step(setup, batch, inputs, loss, trained, passes)
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


def prepare_passes(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Passes]:
    """The augmented, normalized and mixed inputs (B, …) of a step, and the forward and backward pass of them, which may
    be taken more than once with the same numbers."""
    state, config, task, began = setup.state, setup.config, setup.objective.task, perf_counter()
    inputs, targets = prepared_inputs(batch, task, config, setup.normalize, setup.epoch, state.step)
    inputs, targets, mix = mix_batch(
        inputs, targets, config.augment, config.seed, state.step, paste=task.moves_with_image
    )
    state.epoch_augment += perf_counter() - began
    return inputs, partial(forward_and_backward, setup, batch, inputs, targets, mix)


@seeded_by_step
def forward_and_backward(
    setup: Setup, batch: Batch, inputs: torch.Tensor, targets: Targets, mix: Mix | None
) -> tuple[torch.Tensor, Measured]:
    """Both passes of a batch; gradients are added up. Returns the scalar loss and what is measured, of this process.

    The batch goes through the network in parts of `execution.micro_batch` samples, whose losses and gradients add up to
    those of the whole, as do those of several processes.
    """
    state, config, processes, samples = setup.state, setup.config, setup.processes, batch.whole
    module, scaler = state.module, state.scaler or _NO_SCALING
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


def local_rule_step(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Measured]:
    """One update of a network by its local learning rule, without a gradient. Returns the loss that the task would
    have, and what is measured, both of the predictions before the batch was learned."""
    state, objective, config = setup.state, setup.objective, setup.config
    module, rate = state.module, state.optimizer.param_groups[-1]["lr"]
    assert isinstance(module, LocalLearningRule), "recipes refuse others"
    # Where the number of steps is still to be measured: as at the end, when all layers compute.
    progress = state.step / config.budget.steps if config.budget.steps else 1 - 1e-6
    began = perf_counter()
    inputs, targets = prepared_inputs(batch, objective.task, config, setup.normalize, setup.epoch, state.step)
    state.epoch_augment += perf_counter() - began
    losses, measured, weight = [], objective.empty(), objective.task.weight(targets)
    for start, stop in part_bounds(len(inputs), config.execution.micro_batch):
        x, y = inputs[start:stop], targets[start:stop]
        with torch.no_grad():
            loss, more = objective.training_loss(module, x, y, part=Part(state.step, start, len(inputs), weight))
        refuse_nonfinite_loss(setup, batch, x, loss)
        module.learn(x, y, rate, progress)
        losses.append(loss)
        measured.merge(more)
    if state.average is not None:
        state.average.update()
    return sum(losses[1:], losses[0]), measured
