"""A step of a network that learns by a rule of its own, without a gradient."""

from __future__ import annotations

from time import perf_counter

import torch

from striate.data.loader import Batch
from striate.models.learning_rule import OwnRule
from striate.training.measured import Measured
from striate.training.nonfinite.detect import refuse_nonfinite
from striate.training.objective import Part
from striate.training.prepared_batch import part_bounds, prepared_inputs
from striate.training.setup import Setup


def own_rule_step(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Measured]:
    """One update of the network from one batch by its own rule. Returns the loss that the task would have, and what
    is measured, both of the predictions before the batch was learned."""
    state, objective, config = setup.state, setup.objective, setup.config
    module, rate = state.module, state.optimizer.param_groups[-1]["lr"]
    assert isinstance(module, OwnRule), "recipes refuse others"
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
        refuse_nonfinite(setup, batch, x, loss)
        module.learn(x, y, rate, progress)
        losses.append(loss)
        measured.merge(more)
    if state.average is not None:
        state.average.update()
    return sum(losses[1:], losses[0]), measured
