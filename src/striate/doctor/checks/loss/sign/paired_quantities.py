"""Networks with several outputs, such as boxes and classes: does the loss ask each output for the targets of its name
or shape, and can the output reach them?"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import one_hot

from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import output_of
from striate.doctor.evidence.quality import root_mean_square
from striate.doctor.evidence.substituted_outputs import loss_of
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import altered, copied, fields_of, leaf, leaves, parts
from striate.doctor.setup.replicas import Replica
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.tensors import tensors_in

FAR = 5.0
"""Ratio of the root mean squares of the targets and of the outputs after the trial."""
_FEWEST, _ORDERS, _MARGIN = 8, 3, 0.03
_RIGHT = 0.5
"""Share of the loss with targets of other samples: the loss of the right targets is below it, unless the loss scales
the targets."""
_HUGE, _LESS_CORRELATED, _BATCHES = 100.0, 0.3, 4
"""How many times larger than its first output a target is that keeps another one from being learned; by how much the
correlation of the other one with its output is then lower; and the batches that are compared."""

_STANDARD = 0.5
"""Standardizing targets that are standardized already changes them by less, even if samples are few."""


@dataclass(frozen=True)
class Pair:
    """An output of the network and its target."""

    name: str
    """Key or index of the output."""
    number: int
    """Index of the output among all tensors of the network's outputs."""
    output: torch.Tensor
    target: torch.Tensor
    """Of the shape of the output, or class numbers (N,) for scores (N, K)."""


def pairs(evidence: Evidence, *, classes: bool = False) -> Iterator[Pair]:
    """Outputs and targets with the same name and shape, or with a shape that no other output has. With `classes`, also
    scores (N, K) and class numbers (N,), where there is one of each. Nothing where the network has one output."""
    try:
        outputs, batch = _outputs(evidence, evidence.fresh), evidence.train.raw[0]
    except OutOfTime:
        raise
    except NoEvidence:  # the step calls only parts of the network
        return
    known, (inputs, targets) = _floating(outputs), parts(batch)
    if isinstance(targets, torch.Tensor) and isinstance(batch, list | tuple):  # (x, place, area)
        targets = list(batch[1:])
    elif isinstance(targets, torch.Tensor):  # image, gt_bbox, gt_label
        held = batch if isinstance(batch, Mapping) else fields_of(batch) or {}
        targets = {name: part for name, part in held.items() if part is not inputs}
    if len(known) < 2:
        return
    by_name = {name: tensor for name, tensor in _named(targets) if tensor.is_floating_point()}
    order = {id(tensor): number for number, tensor in enumerate(tensors_in(outputs))}
    for name, output in known:
        alike = [t for t in by_name.values() if t.shape == output.shape]
        unique = len(alike) == 1 and sum(other.shape == output.shape for _, other in known) == 1
        target = by_name.get(name) if isinstance(outputs, Mapping) else alike[0] if unique else None
        if target is not None and target.shape == output.shape and len(output) >= _FEWEST:
            yield Pair(name, order[id(output)], output, target)
    scores = [(name, output) for name, output in known if output.ndim == 2 and output.shape[1] > 1]
    labels = [t for _, t in _named(targets) if not t.is_floating_point() and t.ndim == 1]
    if classes and len(scores) == len(labels) == 1:
        (name, output), (target,) = scores[0], labels
        if len(output) == len(target) >= _FEWEST and int(target.min()) >= 0 and int(target.max()) < output.shape[1]:
            yield Pair(name, order[id(output)], output, target)


def _floating(outputs: Any) -> list[tuple[str, torch.Tensor]]:
    return [(name, tensor) for name, tensor in _named(outputs) if tensor.is_floating_point() and tensor.ndim]


def _named(value: Any) -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, Mapping):
        entries = list(value.items())
    else:
        entries = list(enumerate(value)) if isinstance(value, list | tuple) else []
    return [(str(name), tensor) for name, tensor in entries if isinstance(tensor, torch.Tensor)]


def higher_with_own_targets(evidence: Evidence) -> tuple[Pair, float, float] | None:
    """A pair whose loss is higher with the targets in place of the output than with targets of other samples, in each
    of some orders; and the loss of the first batch for both. None where there is no such pair."""
    for pair in pairs(evidence):
        right, *others = _losses(evidence, pair)
        if others and right > min(others) + _MARGIN * abs(min(others)) and right > max(others):
            return pair, right, max(others)
    return None


def out_of_reach(evidence: Evidence) -> tuple[Pair, float, float] | None:
    """A pair whose targets the loss asks for and are far larger than the outputs after the trial; and the root mean
    squares of targets and outputs. None where there is no such pair."""
    for pair in pairs(evidence):
        size = root_mean_square(pair.target)
        if size < FAR * root_mean_square(pair.output):
            continue
        if root_mean_square(_standardized(pair.target, pair.target) - pair.target) < _STANDARD:
            continue  # outputs near 0 are near the mean of the targets
        reached = root_mean_square(list(tensors_in(_outputs(evidence, evidence.trial.replica)))[pair.number])
        right, *others = _losses(evidence, pair)
        if others and size >= FAR * reached and right < _RIGHT * min(others):
            return pair, size, reached
    return None


def drowned(evidence: Evidence) -> tuple[Pair, Pair, float, float] | None:
    """A pair with targets far larger than its output; another pair whose output correlates with its targets only if
    the large targets are standardized; and its correlations after the trial without and with that. None where there
    is no such pair."""
    known = list(pairs(evidence, classes=True))
    for large in known if len(known) > 1 else ():
        place = next((path for path, tensor in leaves(evidence.train.raw[0]) if tensor is large.target), None)
        if place is None or not large.target.is_floating_point():
            continue
        if root_mean_square(large.target) < _HUGE * root_mean_square(large.output):
            continue
        standardize = functools.partial(_standardized, large.target)
        batches = [altered(batch, place, standardize) for batch in evidence.train.raw]
        trial = evidence.variant(f"target {large.name} standardized", Change(), batches=batches)
        for other in (pair for pair in known if pair is not large and trial.error is None):
            own, standardized = (_correlation(evidence, ran, other) for ran in (evidence.trial.replica, trial.replica))
            if standardized >= own + _LESS_CORRELATED:
                return large, other, own, standardized
    return None


def _standardized(known: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values minus the mean of `known`, divided by its standard deviation."""
    return (values - known.mean()) / known.std().clamp_min(1e-12)


def _correlation(evidence: Evidence, replica: Replica, pair: Pair) -> float:
    """The correlation of outputs with their targets over some batches, averaged over columns; class numbers are made
    one-hot."""
    place = next(path for path, tensor in leaves(evidence.train.raw[0]) if tensor is pair.target)
    outputs, targets = list[torch.Tensor](), list[torch.Tensor]()
    for batch in evidence.train.raw[:_BATCHES]:
        target = leaf(batch, place)
        if target is not None:
            target = target if target.is_floating_point() else one_hot(target.long(), pair.output.shape[1])
            outputs.append(list(tensors_in(_outputs(evidence, replica, batch)))[pair.number].reshape(len(target), -1))
            targets.append(target.reshape(len(target), -1))
    both = (torch.cat(outputs), torch.cat(targets))
    centered = [part.double() - part.double().mean(0) for part in both]
    products = (centered[0] * centered[1]).sum(0)
    return float((products / (centered[0].norm(dim=0) * centered[1].norm(dim=0)).clamp_min(1e-12)).mean())


def _outputs(evidence: Evidence, replica: Replica, batch: Any = None) -> Any:
    """The outputs of a replica's network for a batch, by default the first one."""
    batch = copied(evidence.train.raw[0] if batch is None else batch)
    with preserved(replica.model, evaluating=True), same_random_state(), torch.no_grad():
        return output_of(evidence.setup, replica, batch, training=False)


def _losses(evidence: Evidence, pair: Pair) -> list[float]:
    """The loss of the first batch with the targets in place of that output, and with targets of other samples; each
    with a minus where the optimizer maximizes. A single NaN where the step's outputs cannot be replaced."""
    sign = -1 if evidence.trial.maximizes else 1

    def loss_with(output: torch.Tensor) -> float:
        return sign * loss_of(evidence, lambda number, tensor: output if number == pair.number else tensor)

    try:
        return [loss_with(pair.target.roll(by, 0)) for by in range(_ORDERS + 1)]
    except OutOfTime:
        raise
    except NoEvidence:
        return [math.nan]
