"""One update of a network from one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import torch
from torch import nn

from striate.data.loader import Batch
from striate.data.targets import Targets, join_targets
from striate.models.learning_rule import LocalLearningRule, learning_rule
from striate.training.execution import autocast, make_scaler, whole_batch_compiled
from striate.training.guards import SavedBuffers, seed_step, seeded_by_step, updating
from striate.training.measured import Measured
from striate.training.nonfinite.detect import count_skipped, refuse_nonfinite_loss, refuse_nonfinite_step
from striate.training.objective import BatchPart
from striate.training.pool_first import pooling_first
from striate.training.prepared_batch import Mix, mix_batch, part_bounds, prepared_inputs, to_memory_format
from striate.training.processes.batch_norm import whole_batch_statistics
from striate.training.processes.fixed_parts import FixedParts, PartDone, add_up, in_fixed_parts
from striate.training.processes.group import bounds_in_step, part_weight, prepares_whole_batches
from striate.training.setup import Setup
from striate.training.state import TrainingState

Passes = Callable[[], tuple[torch.Tensor, Measured]]


@dataclass(frozen=True)
class Computed:
    """The result of the forward and backward pass of a step, over all processes. The gradients are in the
    parameters."""

    inputs: torch.Tensor
    """(B, …) prepared inputs of this process."""
    again: Callable[[], object]
    """Repeats the passes."""
    loss: torch.Tensor
    """Scalar."""
    measured: Measured
    """What is measured on the batch."""


_ONE_IN = 8
_NO_SCALING = torch.amp.GradScaler(enabled=False)


def training_step(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Measured]:
    """One update of the network from one batch: forward, backward, step. Returns the scalar loss and what is measured.

    A network with a local learning rule takes `local_rule_step` instead. Raises NonFiniteLoss, TrainingError.
    """
    if setup.config.optim.name == "local-rule":
        return local_rule_step(setup, batch)
    state, config, optimizer = setup.state, setup.config, setup.state.optimizer
    state.scaler = state.scaler or make_scaler(config)
    scaler = state.scaler or _NO_SCALING
    trained = [p for group in optimizer.param_groups for p in group["params"]]

    optimizer.zero_grad(set_to_none=True)
    compute = in_parts if in_fixed_parts(config) else at_once
    computed = compute(setup, batch, trained)
    refuse_nonfinite_step(setup, batch, computed.inputs, computed.loss, trained, computed.again)
    with updating(config):
        if config.optim.clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, config.optim.clip)
        scaler.step(optimizer)
        count_skipped(state)
        scaler.update()
        if state.average is not None:
            state.average.update()
    return computed.loss, computed.measured


def at_once(setup: Setup, batch: Batch, trained: Sequence[nn.Parameter]) -> Computed:
    """Both passes of a batch: each process computes its samples, and sums go over the processes."""
    processes, counted = setup.processes, setup.processes.counts(batch.full_size)
    inputs, passes = prepare_passes(setup, batch)
    loss, measured = passes()
    processes.sum_gradients(trained, counted=counted)
    return Computed(inputs, passes, *processes.summed(loss, measured, counted=counted))


def in_parts(setup: Setup, batch: Batch, trained: Sequence[nn.Parameter]) -> Computed:
    """Both passes of each fixed part of a batch, and their sums: the same bits in any number of processes."""
    parts = FixedParts.of(batch.full_size, setup.config, setup.processes)
    inputs, targets, mix = prepared_parts(setup, batch, parts)
    passes = partial(passes_of_parts, setup, batch, inputs, targets, mix, parts, trained)
    return Computed(inputs, passes, *add_up(parts, passes(), trained, buffers_of(setup.state)))


def prepare_passes(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Passes]:
    """The augmented, standardized and blended inputs (B, …) of a step, and a function that runs their forward and
    backward pass, which may be repeated with the same numbers."""
    inputs, targets, mix = _prepared(setup, batch)
    return inputs, partial(forward_and_backward, setup, batch, inputs, targets, mix)


def _prepared(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Targets, Mix | None]:
    state, config, task, began = setup.state, setup.config, setup.objective.task, perf_counter()
    inputs, targets = prepared_inputs(batch, task, config, setup.normalize, setup.epoch, state.step)
    inputs, targets, mix = mix_batch(
        inputs, targets, config.augment, config.seed, state.step, paste=task.moves_with_image
    )
    state.epoch_augment += perf_counter() - began
    return inputs, targets, mix


def prepared_parts(setup: Setup, batch: Batch, parts: FixedParts) -> tuple[torch.Tensor, Targets, Mix | None]:
    """Inputs and targets of a step, each part prepared on its own; whole batches where samples are blended with any
    others."""
    if prepares_whole_batches(setup.config):
        return _prepared(setup, batch)
    slices = [parts.within(batch, part) for part in parts.computed]
    alone = [replace(batch, inputs=batch.inputs[s], targets=batch.targets[s], ids=batch.ids[s]) for s in slices]
    inputs, targets, _ = zip(*(_prepared(setup, part) for part in alone), strict=True)
    return torch.cat(inputs), join_targets(targets), None


def passes_of_parts(
    setup: Setup,
    batch: Batch,
    inputs: torch.Tensor,
    targets: Targets,
    mix: Mix | None,
    parts: FixedParts,
    trained: Sequence[nn.Parameter],
) -> dict[int, PartDone]:
    """Both passes of each part that this process computes. All begin with the same buffers and without gradients."""
    own = {part: parts.within(batch, part) for part in parts.computed}
    weight = parts.weight(setup.objective.task, {part: targets[where] for part, where in own.items()})
    saved, done = SavedBuffers(setup.state.module, setup.state.heads), {}
    saved.save()
    for part, where in own.items():
        saved.restore()
        for parameter in trained:
            parameter.grad = None
        seed_step(setup, inputs.device, part)
        # A copy has the alignment in memory that it has in a process with this part alone.
        x, (first, end) = to_memory_format(inputs[where].clone(), setup.config), parts.bounds(part)
        bounds = [(first + a, a, b) for a, b in part_bounds(end - first, setup.config.execution.micro_batch)]
        blend = mix and mix.part(where.start, where.stop)
        loss, measured = _both_passes(setup, x, targets[where], blend, bounds, batch.full_size, weight)
        after = [buffer.clone() for buffer in buffers_of(setup.state)]
        done[part] = PartDone([parameter.grad for parameter in trained], loss, measured, after)
    return done


def buffers_of(state: TrainingState) -> list[torch.Tensor]:
    """The buffers of the network and of its auxiliary heads."""
    return [*state.module.buffers(), *(state.heads.buffers() if state.heads is not None else ())]


@seeded_by_step
def forward_and_backward(
    setup: Setup, batch: Batch, inputs: torch.Tensor, targets: Targets, mix: Mix | None
) -> tuple[torch.Tensor, Measured]:
    """Both passes of a batch; gradients add up. Returns the scalar loss and what is measured, of this process.

    The batch goes through the network in parts of `execution.micro_batch` samples. Their losses and gradients add up to
    those of the whole batch, as do those of several processes.
    """
    processes, weight = setup.processes, part_weight(setup.objective.task, targets, batch, setup.processes)
    bounds, together = bounds_in_step(batch, setup.config, processes), processes.divides(batch.full_size)
    return _both_passes(setup, inputs, targets, mix, bounds, batch.full_size, weight, together=together)


def _both_passes(
    setup: Setup,
    inputs: torch.Tensor,
    targets: Targets,
    mix: Mix | None,
    bounds: Sequence[tuple[int, int, int]],
    samples: int,
    weight: torch.Tensor | float,
    *,
    together: bool = False,
) -> tuple[torch.Tensor, Measured]:
    """Both passes of each part of `inputs`, one after the other. `bounds`: for each part its number in the whole batch
    of `samples`, and its first and last+1 row in `inputs`. `together`: batch normalization is over all processes."""
    state, config, processes = setup.state, setup.config, setup.processes
    module, scaler = state.module, state.scaler or _NO_SCALING
    losses, measured = [], setup.objective.empty()
    for first, start, stop in bounds:
        x, y, blend = inputs[start:stop], targets[start:stop], mix and mix.part(start, stop)
        with (
            autocast(config, x.device),
            whole_batch_compiled(config, len(x)),
            pooling_first(module, config.execution),
            whole_batch_statistics(module, together),
        ):
            loss, more = setup.objective.training_loss(
                module, x, y, blend, BatchPart(state.step, first, samples, weight)
            )
        scaler.scale(processes.for_backward(loss, samples)).backward()
        losses.append(loss.detach())
        measured.merge(more)
    return sum(losses[1:], losses[0]), measured


def local_rule_step(setup: Setup, batch: Batch) -> tuple[torch.Tensor, Measured]:
    """One update of a network by its local learning rule, without gradients. Returns the loss that the task would have,
    and what is measured, both from predictions before the update. Where the rule learns from the mean over the batch,
    only one sample in `_ONE_IN` is measured, since that pass serves nothing else."""
    state, objective, config = setup.state, setup.objective, setup.config
    module, rate = state.module, state.optimizer.param_groups[-1]["lr"]
    rule = learning_rule(module)
    assert rule is not None, "recipes refuse others"
    assert isinstance(module, LocalLearningRule)
    at_once = rule.batch is not None  # the mean over the batch is one change of the weights
    # While the speed is measured, there is no number of steps: as at the end, when all layers compute.
    progress = state.step / config.budget.steps if config.budget.steps else 1 - 1e-6
    began = perf_counter()
    inputs, targets = prepared_inputs(batch, objective.task, config, setup.normalize, setup.epoch, state.step)
    state.epoch_augment += perf_counter() - began
    seed_step(setup, inputs.device, setup.processes.rank)
    count = -(-len(inputs) // _ONE_IN) if at_once else len(inputs)
    losses, measured, weight = [], objective.empty(), objective.task.weight(targets[:count])
    for start, stop in part_bounds(count, config.execution.micro_batch):
        x, y = inputs[start:stop], targets[start:stop]
        with torch.no_grad():
            loss, more = objective.training_loss(module, x, y, part=BatchPart(state.step, start, count, weight))
        refuse_nonfinite_loss(setup, batch, x, loss)
        if not at_once:
            module.learn(x, y, rate, progress)
        losses.append(loss)
        measured.merge(more)
    if at_once:
        seed_step(setup, inputs.device, setup.processes.rank)  # measuring may have drawn random numbers
        module.learn(inputs, targets, rate, progress)
    if state.average is not None:
        state.average.update()
    return sum(losses[1:], losses[0]), measured
