"""Predictions of a network in evaluation mode, made by the user's step where only that calls the network correctly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import nn

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.quality import Quality, classes_of, one_axis_more, quality
from striate.doctor.evidence.scaled_targets import TargetScale
from striate.doctor.setup.batch import call, copied, main_tensor, parts, placed
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import TrainingSetup
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.module_calls import ModuleCall, module_calls


class CallFailed(NoEvidence):
    """The network, or the step, raised an error for a batch."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for several batches, on the CPU."""

    outputs: torch.Tensor
    """(N, …); with the other sign where the script takes the class with the lowest output."""
    targets: torch.Tensor | None
    """(N, …) as the loader yields them, or as the step scales them; None without targets."""
    loss: float
    """Mean loss over the samples; NaN where the loss cannot be computed from outputs and targets, or is unknown outside
    of the step."""

    @property
    def predicted(self) -> torch.Tensor:
        """The predicted classes, in the shape of the targets. Raises NoEvidence where outputs are no class scores."""
        found = classes_of(self.outputs, self.targets)
        if found is None:
            raise NoEvidence("outputs and targets are not classes")
        return found

    @property
    def accuracy(self) -> float:
        """The accuracy, 0 to 1. Raises NoEvidence where outputs are no class scores."""
        predicted = self.predicted
        assert self.targets is not None
        return float((predicted == self.targets.reshape(predicted.shape).long()).float().mean())

    @property
    def quality(self) -> Quality | None:
        """Their quality, independent of the loss; None where outputs are no predictions of the targets."""
        return quality(self.outputs, self.targets)

    def in_unit_of(self, other: Predictions) -> Predictions:
        """Predictions whose targets have the mean and standard deviation of the training targets `other`, where these
        differ much: a script may standardize only the targets of training."""
        known, trained = self.targets, other.targets
        if known is None or trained is None or not (known.is_floating_point() and trained.is_floating_point()):
            return self
        values, unit = (t.double().reshape(len(t), -1) for t in (known, trained))
        if values.shape[1:] != unit.shape[1:] or min(len(values), len(unit)) < 2:
            return self
        own, target = values.std(0), unit.std(0)
        apart = (values.mean(0) - unit.mean(0)).abs() > _UNITS_APART * target
        apart |= (own > _UNITS_APART * target) | (target > _UNITS_APART * own)
        if not bool((apart & (own > 0) & (target > 0)).any()):
            return self
        times = torch.where(own > 0, target / own, 1.0)
        moved = (values - values.mean(0)) * times + unit.mean(0)
        return replace(self, targets=torch.where(apart, moved, values).reshape(known.shape).to(known.dtype))


_UNITS_APART = 2.0
"""Targets have another unit than those of training where their means differ by more standard deviations of training, or
their standard deviations by a larger factor."""


def predict(
    setup: TrainingSetup,
    replica: Replica,
    batches: Sequence[Any],
    *,
    training: bool = False,
    until: float | None = None,
    scale: TargetScale | None = None,
    directly: bool = False,
) -> Predictions:
    """Predictions of the replica for batches, with all its modules in evaluation mode (or `training` mode); nothing in
    the replica changes. `scale`: how the step scales the loader's targets. `directly`: the network receives the batch
    as it is, where the step would blend samples first.

    Raises NoEvidence where the network cannot be called, or its outputs are not one tensor of one shape.
    """
    outputs: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    loss, count = 0.0, 0
    with preserved(replica.model, evaluating=not training), same_random_state(), torch.no_grad():
        if training:
            replica.model.train()
        for batch in batches:
            if until is not None and outputs and perf_counter() > until:
                break
            given = copied(batch)
            target = main_tensor(parts(given)[1])
            output = main_tensor(output_of(setup, replica, given, training=training, directly=directly))
            if output is None or not output.ndim:
                raise NoEvidence("the network's outputs are not a tensor")
            outputs.append(output.detach().cpu())
            if target is not None:
                outputs[-1] = one_axis_more(outputs[-1], target)
            if target is not None and scale is not None and target.ndim:
                target = scale.of(target.cpu())
            if target is not None:
                targets.append(target.cpu())
                known = not (setup.own_loss and target.is_floating_point()) or setup.own_step
                loss += (_loss(replica, output, target) if known else float("nan")) * len(output)
            count += len(output)
    if len({tensor.shape[1:] for tensor in outputs}) != 1:
        raise NoEvidence("the network's outputs have several shapes")
    if len({tensor.shape[1:] for tensor in targets}) > 1 or any(not tensor.ndim for tensor in targets):
        raise NoEvidence("the targets have several shapes")
    if setup.source is not None and setup.source.predicts_lowest:
        outputs = [-output for output in outputs]
    return Predictions(torch.cat(outputs), torch.cat(targets) if targets else None, loss / max(count, 1))


def _loss(replica: Replica, output: torch.Tensor, targets: torch.Tensor) -> float:
    with suppress(Exception):  # the user's loss may need other arguments
        return float(replica.loss(output, targets.to(output.device)))
    return float("nan")


def output_of(setup: TrainingSetup, replica: Replica, batch: Any, *, training: bool, directly: bool = False) -> Any:
    """The network's output for a batch, in its present mode. Raises NoEvidence where it cannot be called."""
    if setup.own_step or directly:
        try:
            return call(replica.model, parts(placed(batch, setup.device))[0])
        except Exception as error:
            raise CallFailed(f"the network raised {type(error).__name__} when called") from None
    caught: list[Any] = []
    with _stopping_after_forward(replica.model, caught, training):
        try:
            with torch.enable_grad():
                replica.step(replica.model, batch, replica.optimizer, replica.loss)
        except _EndStep:
            pass
        except Exception as error:
            raise CallFailed(f"the step raised {type(error).__name__} when called") from None
    if not caught:
        raise NoEvidence("the step does not call the network as a whole")
    return caught[0]


class _EndStep(BaseException):
    """Ends the user's step once the network has predicted; no `except Exception` catches it."""


_MOST_ROWS, _LEFT, _FEWEST_NUMBERS = 8, 1e-3, 16
"""Most rows that are tested; largest residual of a blend, as a share of the standard deviation; fewest numbers of a
sample."""


def are_blends(shown: torch.Tensor, raw: torch.Tensor) -> bool:
    """Whether the network's inputs `shown` (N, …) blend the samples `raw` (N, …) of a batch: weighted means of them
    (mixup, Zhang et al. 2018), or one with a part of another (CutMix, Yun et al. 2019)."""
    if shown.shape != raw.shape or raw.ndim < 3 or not raw.is_floating_point() or torch.equal(shown, raw):
        return False
    x, mixed = raw.double().flatten(1), shown.double().flatten(1)[:_MOST_ROWS]
    numbers, most = x.shape[1], _LEFT * float(x.std())
    few = numbers <= 2 * len(x)  # many samples span everything: only blends of two are tested
    if (few and numbers < _FEWEST_NUMBERS) or not bool(x.isfinite().all() and mixed.isfinite().all()):
        return False
    if not few:
        weights = torch.linalg.lstsq(x.T, mixed.T).solution
        residual = (x.T @ weights - mixed.T).square().mean().sqrt()
        if residual <= most and bool(((weights.sum(0) - 1).abs() <= _LEFT).all()):
            return True
    elif all(_is_between(row, x[place], x, most) for place, row in enumerate(mixed)):
        return True
    parts_of_two = (_is_of_two(row, x[place], x) for place, row in enumerate(mixed))
    return all(parts_of_two)


def _is_between(row: torch.Tensor, own: torch.Tensor, others: torch.Tensor, most: float) -> bool:
    """Whether a row is a weighted mean of its own sample and one other, with a residual of at most `most`."""
    away, moved = others - own, row - own
    weights = ((away @ moved) / away.square().sum(1).clamp_min(1e-12)).clamp(0, 1)
    return float((weights[:, None] * away - moved).square().mean(1).min().sqrt()) <= most


def _is_of_two(row: torch.Tensor, own: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether each number of a row comes from its own sample, or from one other sample."""
    changed = row != own
    return not bool(changed.any()) or bool((others[:, changed] == row[changed]).all(1).any())


@contextmanager
def _stopping_after_forward(model: nn.Module, caught: list[Any], training: bool) -> Iterator[None]:
    """While the body runs, the network is in the given mode when it is called, and its first call ends the step."""

    def leave(call: ModuleCall) -> None:
        caught.append(call.output)
        raise _EndStep

    with module_calls({"": model}, lambda _: model.train(training), leave):
        yield
