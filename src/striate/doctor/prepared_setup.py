"""A training that is about to start, as a training setup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from striate.data.loader import batches, epoch_order
from striate.doctor.diagnose import examine
from striate.doctor.diagnosis import Diagnosis
from striate.doctor.evidence.clock import Clock
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import Loss, TrainingSetup
from striate.inference.predictor import batch_size
from striate.models.weights.auxiliary_outputs import network_outputs
from striate.tasks.task import Task
from striate.training.execution import autocast, execution_settings, uncompiled
from striate.training.objective import Objective
from striate.training.prepare import Prepared
from striate.training.prepared_batch import prepared_inputs, to_memory_format

_WARMUP = 10
"""Steps."""


_DECIDED_ELSEWHERE = frozenset({"speed.slow-plan"})
"""Codes that the execution plan decides, which is measured for longer runs: `striate plan` shows it."""


def examine_prepared(prepared: Prepared, clock: Clock, *, quick: bool = False) -> Diagnosis:
    """Run all checks on a training that is about to start. `quick`: only those that need no trials of their own."""
    setup = setup_of(prepared)
    with execution_settings(prepared.config), uncompiled(prepared.config), state_preserved(setup):
        return examine(setup, clock, quick=quick, without=_DECIDED_ELSEWHERE)


def setup_of(prepared: Prepared) -> TrainingSetup:
    """The setup of the training that `striate train` runs, with its augmented and standardized batches, its loss,
    optimizer, peak rate and precision. Networks that the plan compiles run uncompiled, with the same results."""
    step = partial(_step, objective=prepared.objective, warmup=_Warmup())
    return TrainingSetup(
        prepared.state.module,
        TrainingBatches(prepared),
        ValidationBatches(prepared),
        cast(Any, partial(_loss, prepared.task)),
        prepared.state.optimizer,
        cast(Any, step),
        prepared.task.name,
        prepared.task.diagnosed_as,
        arrays=False,
        own_loss=False,
        own_optimizer=False,
        own_step=False,
    )


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of the first epoch, as the network receives them."""

    prepared: Prepared
    dataset: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", self.prepared.splits["train"])

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        given, config = self.prepared, self.prepared.config
        assert config.batch is not None, "recipes decide it"
        order = given.task.epoch_order(self.dataset.targets, config.seed, 0)
        for step, batch in enumerate(batches(self.dataset, config.batch, order=order)):
            inputs, targets = prepared_inputs(batch, given.task, config, given.normalize, 0, step)
            yield inputs, given.task.standardized(targets)


@dataclass(frozen=True)
class ValidationBatches:
    """The validation split, standardized."""

    prepared: Prepared
    dataset: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", self.prepared.splits["val"])

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        given = self.prepared
        # In random order, since the split may be sorted by class.
        order = epoch_order(len(self.dataset), given.config.seed, 0)
        for batch in batches(self.dataset, batch_size(given.data.input_shape), order=order):
            inputs = to_memory_format(given.normalize(batch.inputs), given.config)
            yield inputs, given.task.standardized(batch.targets)


def _loss(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return task.loss(outputs, task.unstandardized(targets))


@dataclass
class _Warmup:
    """The warm-up of one replica. A trial is too short for the schedule, most of whose steps are near the peak rate."""

    done: int = 0
    """Steps made."""
    share: float = 1.0
    """Share of the peak rate in the last step."""

    def begin(self) -> float:
        """The factor that changes the rate for the next step, on the way from a tenth of the peak rate to all of it."""
        before, self.share = self.share, min(1.0, (self.done + 1) / _WARMUP)
        self.done += 1
        return self.share / before


def _step(
    model: nn.Module, batch: Any, optimizer: Optimizer, loss: Loss, *, objective: Objective, warmup: _Warmup
) -> torch.Tensor:
    """One step of training/step.py. The warm-up multiplies the rates, so that trials may change them too."""
    inputs, targets = batch
    config = objective.config
    optimizer.zero_grad(set_to_none=True)
    with autocast(config, inputs.device):
        if objective.heads is None and not config.regularize.penalizes_activations:
            result = objective.task.outputs_for(model, inputs, objective.task.unstandardized(targets))
            given = network_outputs(model, result, whole=objective.task.reads_tree)
            value = loss(given.outputs, targets)
            for weight, outputs in given.auxiliary:
                value = value + weight * loss(outputs, targets)
        else:
            value, _ = objective.training_loss(model, inputs, objective.task.unstandardized(targets))
    value.backward()
    if config.optim.clip:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], config.optim.clip)
    change = warmup.begin()
    for group in optimizer.param_groups:
        group["lr"] *= change
    optimizer.step()
    return value.detach()
