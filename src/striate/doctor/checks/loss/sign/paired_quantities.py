"""Quantities that a network of several outputs is to give, such as boxes beside classes: does the loss ask for the
targets of that name or shape, and can the outputs reach them?"""

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
"""Times as large, in the root mean square: the targets, as the outputs after the trial."""
_FEWEST, _ORDERS, _MARGIN = 8, 3, 0.03
_RIGHT = 0.5
"""Of the loss with answers of other samples: what the loss asks for as it is costs far less, scaled it does not."""
_HUGE, _ALONG, _ASKED = 100.0, 0.3, 4
"""Times as large as its output is at first: a target beside which another is not learned; by how much its output then
goes along with it less, in correlation; batches asked."""

_STANDARD = 0.5
"""Standardizing moves targets that are standardized by less, of few samples too."""


@dataclass(frozen=True)
class Pair:
    """An output and the target that it is to meet, of one shape. `number`: among the tensors that the network gives."""

    name: str
    number: int
    output: torch.Tensor
    target: torch.Tensor


def pairs(evidence: Evidence, *, classes: bool = False) -> Iterator[Pair]:
    """Of outputs and targets of several parts those of one name and shape, or else of a shape that no other has;
    `classes`: also scores (N, K) and the class numbers (N,), where there is one of each."""
    try:
        outputs, batch = _given(evidence, evidence.fresh), evidence.train.raw[0]
    except OutOfTime:
        raise
    except NoEvidence:  # a step that never calls the network as a whole has none
        return
    given, (inputs, targets) = _numbers(outputs), parts(batch)
    if isinstance(targets, torch.Tensor) and isinstance(batch, list | tuple):  # (x, place, area)
        targets = list(batch[1:])
    elif isinstance(targets, torch.Tensor):  # image, gt_bbox, gt_label
        held = batch if isinstance(batch, Mapping) else fields_of(batch) or {}
        targets = {name: part for name, part in held.items() if part is not inputs}
    if len(given) < 2:
        return
    wanted = {name: tensor for name, tensor in _named(targets) if tensor.is_floating_point()}
    order = {id(tensor): number for number, tensor in enumerate(tensors_in(outputs))}
    for name, output in given:
        alike = [t for t in wanted.values() if t.shape == output.shape]
        unique = len(alike) == 1 and sum(other.shape == output.shape for _, other in given) == 1
        target = wanted.get(name) if isinstance(outputs, Mapping) else alike[0] if unique else None
        if target is not None and target.shape == output.shape and len(output) >= _FEWEST:
            yield Pair(name, order[id(output)], output, target)
    scores = [(name, output) for name, output in given if output.ndim == 2 and output.shape[1] > 1]
    labels = [t for _, t in _named(targets) if not t.is_floating_point() and t.ndim == 1]
    if classes and len(scores) == len(labels) == 1:
        (name, output), (target,) = scores[0], labels
        if len(output) == len(target) >= _FEWEST and int(target.min()) >= 0 and int(target.max()) < output.shape[1]:
            yield Pair(name, order[id(output)], output, target)


def _numbers(outputs: Any) -> list[tuple[str, torch.Tensor]]:
    return [(name, tensor) for name, tensor in _named(outputs) if tensor.is_floating_point() and tensor.ndim]


def _named(value: Any) -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, Mapping):
        found = list(value.items())
    else:
        found = list(enumerate(value)) if isinstance(value, list | tuple) else []
    return [(str(name), tensor) for name, tensor in found if isinstance(tensor, torch.Tensor)]


def wanted_least(evidence: Evidence) -> tuple[Pair, float, float] | None:
    """A pair whose loss is higher for outputs that are the targets than for those of other samples, in each of some
    orders; with the loss of the first batch for both."""
    for pair in pairs(evidence):
        right, *others = _losses(evidence, pair)
        if others and right > min(others) + _MARGIN * abs(min(others)) and right > max(others):
            return pair, right, max(others)
    return None


def out_of_reach(evidence: Evidence) -> tuple[Pair, float, float] | None:
    """A pair whose targets the loss asks for, and which lie far beyond all that the outputs are after the trial; with
    the root mean squares of both."""
    for pair in pairs(evidence):
        size = root_mean_square(pair.target)
        if size < FAR * root_mean_square(pair.output):
            continue
        if root_mean_square(_to(pair.target, pair.target) - pair.target) < _STANDARD:
            continue  # outputs near 0 are near their mean
        reached = root_mean_square(list(tensors_in(_given(evidence, evidence.trial.replica)))[pair.number])
        right, *others = _losses(evidence, pair)
        if others and size >= FAR * reached and right < _RIGHT * min(others):
            return pair, size, reached
    return None


def drowned(evidence: Evidence) -> tuple[Pair, Pair, float, float] | None:
    """A pair with targets far larger than its output, and another whose output goes along with its targets only where
    those are standardized; with its correlations after the trial as it is and then."""
    known = list(pairs(evidence, classes=True))
    for large in known if len(known) > 1 else ():
        place = next((path for path, tensor in leaves(evidence.train.raw[0]) if tensor is large.target), None)
        if place is None or not large.target.is_floating_point():
            continue
        if root_mean_square(large.target) < _HUGE * root_mean_square(large.output):
            continue
        batches = [altered(batch, place, functools.partial(_to, large.target)) for batch in evidence.train.raw]
        trial = evidence.variant(f"target {large.name} standardized", Change(), batches=batches)
        for other in (pair for pair in known if pair is not large and trial.error is None):
            own, freed = (_along(evidence, ran, other) for ran in (evidence.trial.replica, trial.replica))
            if freed >= own + _ALONG:
                return large, other, own, freed
    return None


def _to(known: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Values with the mean and the variance of known ones brought to 0 and 1."""
    return (values - known.mean()) / known.std().clamp_min(1e-12)


def _along(evidence: Evidence, replica: Replica, pair: Pair) -> float:
    """The correlation of outputs of some batches with their targets, of class numbers one-hot, the mean of all
    columns."""
    place = next(path for path, tensor in leaves(evidence.train.raw[0]) if tensor is pair.target)
    given, wanted = list[torch.Tensor](), list[torch.Tensor]()
    for batch in evidence.train.raw[:_ASKED]:
        target = leaf(batch, place)
        if target is not None:
            target = target if target.is_floating_point() else one_hot(target.long(), pair.output.shape[1])
            given.append(list(tensors_in(_given(evidence, replica, batch)))[pair.number].reshape(len(target), -1))
            wanted.append(target.reshape(len(target), -1))
    both = (torch.cat(given), torch.cat(wanted))
    centered = [part.double() - part.double().mean(0) for part in both]
    products = (centered[0] * centered[1]).sum(0)
    return float((products / (centered[0].norm(dim=0) * centered[1].norm(dim=0)).clamp_min(1e-12)).mean())


def _given(evidence: Evidence, replica: Replica, batch: Any = None) -> Any:
    """What a replica's network gives for a batch, or else the first."""
    batch = copied(evidence.train.raw[0] if batch is None else batch)
    with preserved(replica.model, evaluating=True), same_random_state(), torch.no_grad():
        return output_of(evidence.setup, replica, batch, training=False)


def _losses(evidence: Evidence, pair: Pair) -> list[float]:
    """The loss of the first batch with the targets in the place of that output, and with those of other samples, each
    with a minus where the optimizer maximizes it; not a number alone where the step takes no other outputs than its
    network's."""
    answers = [pair.target.roll(by, 0) for by in range(_ORDERS + 1)]
    sign = -1 if evidence.trial.maximizes else 1

    def cost(answer: torch.Tensor) -> float:
        return sign * loss_of(evidence, lambda number, tensor: answer if number == pair.number else tensor)

    try:
        return [cost(answer) for answer in answers]
    except OutOfTime:
        raise
    except NoEvidence:
        return [math.nan]
