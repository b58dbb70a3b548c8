"""A training that is about to start, as a patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from striate.data.loader import batches, epoch_order
from striate.doctor.patient.patient import Loss, Patient
from striate.models.weights.auxiliary_outputs import answers
from striate.training.execution import autocast
from striate.training.objective import Objective
from striate.training.optimizers import set_learning_rate
from striate.training.prepare import Prepared
from striate.training.prepared_batch import prepared_inputs, to_memory_format

_VALIDATED_AT_ONCE = 256
_WARMUP = 10
"""Steps."""


def patient_of(prepared: Prepared) -> Patient:
    """The training as `striate train` makes it: batches augmented and standardized, its own loss, optimizer, peak
    rate and precision. The plan's compiled forms run as they are written: results are the same."""
    config, optimizer = prepared.config, prepared.state.optimizer
    warmup = _Warmup()
    assert config.optim.lr is not None, "recipes decide it"
    set_learning_rate(optimizer, config.optim.lr * warmup.share())
    step = partial(_step, objective=prepared.objective, warmup=warmup)
    return Patient(
        prepared.state.module,
        TrainingBatches(prepared),
        ValidationBatches(prepared),
        prepared.task.loss,
        optimizer,
        cast(Any, step),
        prepared.task.name,
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
        order = epoch_order(len(self.dataset), config.seed, 0)
        for step, batch in enumerate(batches(self.dataset, config.batch, order=order)):
            yield prepared_inputs(batch, given.task, config, given.normalize, 0, step)


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
        for batch in batches(self.dataset, _VALIDATED_AT_ONCE, order=order):
            yield to_memory_format(given.normalize(batch.inputs), given.config), batch.targets


@dataclass
class _Warmup:
    """Which step it is; each double has its own."""

    done: int = 0

    def share(self) -> float:
        """Of the peak rate: a trial is too short for the schedule, most of whose steps are near its peak."""
        return min(1.0, (self.done + 1) / _WARMUP)


def _step(
    model: nn.Module, batch: Any, optimizer: Optimizer, loss: Loss, *, objective: Objective, warmup: _Warmup
) -> torch.Tensor:
    """One step of training/loop.py. Rates change by ratios, so that a trial may vary them."""
    inputs, targets = batch
    config = objective.config
    optimizer.zero_grad(set_to_none=True)
    with autocast(config, inputs.device):
        if objective.heads is None and not config.regularize.sparsity:
            given = answers(model, model(inputs))
            value = loss(given.outputs, targets)
            for weight, outputs in given.auxiliary:
                value = value + weight * loss(outputs, targets)
        else:
            value, _ = objective.training_loss(model, inputs, targets)
    value.backward()
    if config.optim.clip:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], config.optim.clip)
    optimizer.step()
    before = warmup.share()
    warmup.done += 1
    for group in optimizer.param_groups:
        group["lr"] *= warmup.share() / before
    return value.detach()
