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
"""By the execution plan, which is measured for longer runs: `striate plan` shows it."""


def examine_prepared(prepared: Prepared, clock: Clock, *, quick: bool = False) -> Diagnosis:
    """All checks on a training that is about to start; `quick`: those that need no trials of their own."""
    setup = setup_of(prepared)
    with execution_settings(prepared.config), uncompiled(prepared.config), state_preserved(setup):
        return examine(setup, clock, quick=quick, without=_DECIDED_ELSEWHERE)


def setup_of(prepared: Prepared) -> TrainingSetup:
    """The training as `striate train` makes it: batches augmented and standardized, its own loss, optimizer, peak
    rate and precision. The plan's compiled forms run as they are written: results are the same."""
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
    """The first epoch, as the network gets it."""

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
        # Spread over the split, which may be sorted by class.
        order = epoch_order(len(self.dataset), given.config.seed, 0)
        for batch in batches(self.dataset, batch_size(given.data.input_shape), order=order):
            inputs = to_memory_format(given.normalize(batch.inputs), given.config)
            yield inputs, given.task.standardized(batch.targets)


def _loss(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return task.loss(outputs, task.unstandardized(targets))


@dataclass
class _Warmup:
    """Which step it is; each replica has its own."""

    done: int = 0
    share: float = 1.0

    def begin(self) -> float:
        """What to change the rate by for the next step, from a tenth to the whole peak rate: a trial is too short for
        the schedule, most of whose steps are near its peak."""
        before, self.share = self.share, min(1.0, (self.done + 1) / _WARMUP)
        self.done += 1
        return self.share / before


def _step(
    model: nn.Module, batch: Any, optimizer: Optimizer, loss: Loss, *, objective: Objective, warmup: _Warmup
) -> torch.Tensor:
    """One step of training/step.py. Rates change by ratios, so that a trial may vary them."""
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
