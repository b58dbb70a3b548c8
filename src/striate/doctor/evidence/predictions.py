"""What a network predicts in evaluation mode, through the user's own step where only that knows how to call it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import nn

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.quality import classes_of, one_axis_more
from striate.doctor.evidence.scaled_targets import TargetScale
from striate.doctor.setup.batch import call, copied, main_tensor, parts, placed
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import TrainingSetup
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.module_calls import ModuleCall, module_calls


class Refused(NoEvidence):
    """The network, or the step, raised an error for a batch."""


@dataclass(frozen=True)
class Predictions:
    """Outputs (N, …) on the CPU, targets (N, …) as the loader gave them, or scaled as the step scales them, and the
    samples' loss by batch, weighted by size: not a number where the loss cannot be computed of outputs and targets, or
    only the step knows what it is."""

    outputs: torch.Tensor
    targets: torch.Tensor | None
    loss: float

    @property
    def predicted(self) -> torch.Tensor:
        """The classes predicted, in the shape of the targets. Raises NoEvidence where there are none."""
        found = classes_of(self.outputs, self.targets)
        if found is None:
            raise NoEvidence("outputs and targets are not classes")
        return found

    @property
    def accuracy(self) -> float:
        """The share of right classes. Raises NoEvidence where there are no classes."""
        predicted = self.predicted
        assert self.targets is not None
        return float((predicted == self.targets.reshape(predicted.shape).long()).float().mean())

    def in_unit_of(self, other: Predictions) -> Predictions:
        """With the mean and deviation of the targets of `other`, of training, where these are far apart: scripts
        standardize the numbers that they train on, and may bring predictions back to the unit of all others."""
        known, asked = self.targets, other.targets
        if known is None or asked is None or not (known.is_floating_point() and asked.is_floating_point()):
            return self
        values, unit = (t.double().reshape(len(t), -1) for t in (known, asked))
        if values.shape[1:] != unit.shape[1:] or min(len(values), len(unit)) < 2:
            return self
        own, wanted = values.std(0), unit.std(0)
        apart = (values.mean(0) - unit.mean(0)).abs() > _UNITS_APART * wanted
        apart |= (own > _UNITS_APART * wanted) | (wanted > _UNITS_APART * own)
        if not bool((apart & (own > 0) & (wanted > 0)).any()):
            return self
        times = torch.where(own > 0, wanted / own, 1.0)
        moved = (values - values.mean(0)) * times + unit.mean(0)
        return replace(self, targets=torch.where(apart, moved, values).reshape(known.shape).to(known.dtype))


_UNITS_APART = 2.0
"""Deviations of training targets that means are apart, or times the deviation: another unit."""


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
    """The predictions of the replica for batches, all parts of it in evaluation mode (or `training`); nothing in it
    changes. `scale`: what the step does to the loader's targets. `directly`: the network is given the batch as it is,
    where the step would blend samples first.

    Raises NoEvidence where it cannot be asked, or what it gives is not one tensor of one shape.
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
            wanted = main_tensor(parts(given)[1])
            output = main_tensor(output_of(setup, replica, given, training=training, directly=directly))
            if output is None or not output.ndim:
                raise NoEvidence("the network's outputs are not a tensor")
            outputs.append(output.detach().cpu())
            if wanted is not None:
                outputs[-1] = one_axis_more(outputs[-1], wanted)
            if wanted is not None and scale is not None and wanted.ndim:
                wanted = scale.of(wanted.cpu())
            if wanted is not None:
                targets.append(wanted.cpu())
                known = not (setup.own_loss and wanted.is_floating_point()) or setup.own_step
                loss += (_loss(replica, output, wanted) if known else float("nan")) * len(output)
            count += len(output)
    if len({tensor.shape[1:] for tensor in outputs}) != 1:
        raise NoEvidence("the network's outputs have several shapes")
    if len({tensor.shape[1:] for tensor in targets}) > 1 or any(not tensor.ndim for tensor in targets):
        raise NoEvidence("the targets have several shapes")
    return Predictions(torch.cat(outputs), torch.cat(targets) if targets else None, loss / max(count, 1))


def _loss(replica: Replica, output: torch.Tensor, targets: torch.Tensor) -> float:
    with suppress(Exception):  # a loss of the user's, that may want another form
        return float(replica.loss(output, targets.to(output.device)))
    return float("nan")


def output_of(setup: TrainingSetup, replica: Replica, batch: Any, *, training: bool, directly: bool = False) -> Any:
    """What the network gives for a batch, in the mode it is in. Raises NoEvidence where it cannot be asked."""
    if setup.own_step or directly:
        try:
            return call(replica.model, parts(placed(batch, setup.device))[0])
        except Exception as error:
            raise Refused(f"the network raised {type(error).__name__} when asked") from None
    caught: list[Any] = []
    with _stopping_after_forward(replica.model, caught, training):
        try:
            with torch.enable_grad():
                replica.step(replica.model, batch, replica.optimizer, replica.loss)
        except _Enough:
            pass
        except Exception as error:
            raise Refused(f"the step raised {type(error).__name__} when asked") from None
    if not caught:
        raise NoEvidence("the step does not call the network as a whole")
    return caught[0]


class _Enough(BaseException):
    """Ends the user's step once the network has predicted; no `except Exception` catches it."""


_MOST_ROWS, _LEFT, _FEWEST_NUMBERS = 8, 1e-3, 16
"""Rows that are looked at; of the deviation, what may be left of a blend; numbers of a sample."""


def are_blends(shown: torch.Tensor, raw: torch.Tensor) -> bool:
    """Whether what a network is shown (N, …) are the samples of a batch (N, …) blended: sums of them whose shares add
    up to 1 (Zhang et al. 2018, mixup), or one with a part of another (Yun et al. 2019, CutMix)."""
    if shown.shape != raw.shape or raw.ndim < 3 or not raw.is_floating_point() or torch.equal(shown, raw):
        return False
    x, mixed = raw.double().flatten(1), shown.double().flatten(1)[:_MOST_ROWS]
    numbers, most = x.shape[1], _LEFT * float(x.std())
    few = numbers <= 2 * len(x)  # sums of that many samples may be anything: only those of two tell
    if (few and numbers < _FEWEST_NUMBERS) or not bool(x.isfinite().all() and mixed.isfinite().all()):
        return False
    if not few:
        shares = torch.linalg.lstsq(x.T, mixed.T).solution
        left = (x.T @ shares - mixed.T).square().mean().sqrt()
        if left <= most and bool(((shares.sum(0) - 1).abs() <= _LEFT).all()):
            return True
    elif all(_is_between(row, x[place], x, most) for place, row in enumerate(mixed)):
        return True
    parts_of_two = (_is_of_two(row, x[place], x) for place, row in enumerate(mixed))
    return all(parts_of_two)


def _is_between(row: torch.Tensor, own: torch.Tensor, others: torch.Tensor, most: float) -> bool:
    """Whether a row is the weighted mean of its own sample and one other, but for `most` of deviation."""
    away, moved = others - own, row - own
    shares = ((away @ moved) / away.square().sum(1).clamp_min(1e-12)).clamp(0, 1)
    return float((shares[:, None] * away - moved).square().mean(1).min().sqrt()) <= most


def _is_of_two(row: torch.Tensor, own: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether each number of a row is that of its own sample, or of one other."""
    changed = row != own
    return not bool(changed.any()) or bool((others[:, changed] == row[changed]).all(1).any())


@contextmanager
def _stopping_after_forward(model: nn.Module, caught: list[Any], training: bool) -> Iterator[None]:
    """Steps set modes as training needs them: the mode that is asked for is set as the network is entered."""

    def leave(call: ModuleCall) -> None:
        caught.append(call.output)
        raise _Enough

    with module_calls({"": model}, lambda _: model.train(training), leave):
        yield
