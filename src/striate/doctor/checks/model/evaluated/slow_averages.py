"""Averages of the weights that follow the network too slowly, since their decay suits a training of many more steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.model.evaluated.code import CODE
from striate.doctor.checks.model.evaluated.copies import CopyStates, FindCopies, named_tensors, with_cloned_tensors
from striate.doctor.checks.model.evaluated.never_updated import plain
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import passes_planned
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.reached_objects import reached_objects
from striate.doctor.setup.replicas import Replica
from striate.records import Finding
from striate.wording import percent, several

_FOLLOWED = 0.5
_FOLLOWED_LATER = 0.25
"""For averages that follow well at first. It is smaller, since the weights that they then hold are useful, and an even
average of all steps goes 63 % of the way."""


def too_slow(evidence: Evidence, trial: Trial, copies: CopyStates) -> Iterator[Finding]:
    """Averages that will not have reached the network's weights by the end of training. `copies`: averages, each with
    its tensors before the trial."""
    steps = sum(row.steps for row in trial.rows)
    planned = passes_planned(evidence) * steps / max(len(trial.rows), 1)
    for thing, before in copies:
        share = _share(thing, before, trial)
        if share is None or not share or not steps or planned <= 0:
            continue
        followed = 1 - (1 - min(share, 1.0)) ** (planned / steps)
        if followed < _FOLLOWED:
            yield Finding(
                code=CODE,
                severity="warning",
                where="the training step",
                measured=f"in {several(steps, 'step')} an average of the network's weights ({type(thing).__name__}) "
                f"has gone {share:.2g} of the way to them, which makes {percent(followed)} after all {planned:.0f}",
                threshold=f"less than {percent(_FOLLOWED, 0)} of the way to the network's weights by the end",
                why="Its decay suits a training of many more steps: if the average is evaluated, it contains hardly "
                "anything that was learned.",
                remedy=f"use a decay that forgets the initial weights within the training, such as {_decay(planned):g}",
            )
            return


def too_slow_later(evidence: Evidence, trial: Trial, copies: CopyStates, find_copies: FindCopies) -> Iterator[Finding]:
    """Averages that follow the network at first, as those that copy its first weights do, but hardly follow it once
    half of the training is over. The trial sets the step counts of the objects that hold them to half of the
    training."""
    planned, done = passes_planned(evidence), len(trial.rows)
    followed = [thing for thing, before in copies if _share(thing, before, trial)]
    began = dict(_step_counts(evidence.fresh, [thing for thing, _ in find_copies(evidence.fresh)]))
    ended = _step_counts(trial.replica, followed)
    counting = {key for key, count in ended if key in began and count - began[key] == done}
    if planned <= 2 * done or not counting:
        return
    at_half: CopyStates = []

    def prepare(replica: Replica) -> None:
        for owner in reached_objects((replica.step,)):
            for name in [name for kind, name in counting if kind is type(owner)]:
                setattr(owner, name, int(planned / 2))
        at_half.extend(with_cloned_tensors(find_copies(replica)))

    later = evidence.variant("with averages half-way", Change(prepare=prepare, notes=at_half))
    steps = len(later.rows)
    for thing, before in later.notes if later.error is None and steps else ():
        share = _share(thing, before, later)
        if share and (in_all := 1 - (1 - min(share, 1.0)) ** (planned / steps)) < _FOLLOWED_LATER:
            yield Finding(
                code=CODE,
                severity="warning",
                where="the training step",
                measured=f"an average of the network's weights ({type(thing).__name__}) follows them at first; but in "
                f"{several(steps, 'step')} with its count at half of the training it has gone {share:.2g} of the way "
                f"to them, which makes {percent(in_all)} in as many steps as the whole training has, {planned:.0f}",
                threshold=f"less than {percent(_FOLLOWED_LATER, 0)} of the way to the network's weights, by the rate "
                "at half of the training",
                why="Its decay suits a training of many more steps: if the average is evaluated, it contains hardly "
                "anything that was learned after the beginning.",
                remedy=f"use a decay that forgets old weights within the training, such as {_decay(planned):g}",
            )
            return


def _step_counts(replica: Replica, things: list[Any]) -> Iterator[tuple[tuple[type, str], int]]:
    """The integer attributes of the user's objects that also hold one of these copies, by class and name."""
    ids = {id(thing) for thing in things}
    for owner in reached_objects((replica.step,)):
        attributes = vars(owner) if hasattr(owner, "__dict__") and not isinstance(owner, nn.Module) else {}
        if any(id(value) in ids for value in attributes.values()):
            yield from (((type(owner), name), value) for name, value in attributes.items() if type(value) is int)


def _share(thing: Any, before: dict[str, torch.Tensor], trial: Trial) -> float | None:
    """The share of the way to the network's weights that a copy has gone in a trial."""
    return share_followed(before, named_tensors(thing, before), trial.replica.model)


def _decay(steps: float) -> float:
    """The decay that keeps a hundredth of the old weights after a tenth of the steps, or after 10 steps if that is
    more."""
    return round(math.pow(0.01, 1 / max(steps / 10, 10)), 4)


def share_followed(before: dict[str, torch.Tensor], now: dict[str, torch.Tensor], model: nn.Module) -> float | None:
    """The share of the way to the network's weights that a copy has gone since `before`, 0 to 1; None where the weights
    did not change."""
    own = {plain(name): tensor for name, tensor in model.named_parameters() if tensor.is_floating_point()}
    return share_of_way((before[key], now[key], own[key]) for key in own if key in before and key in now)


def share_of_way(triples: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> float | None:
    """The share of the distance from their beginning to their end that tensors have gone; None where that is 0.
    `triples`: each tensor at the beginning, now and at the end."""
    moved = distance = 0.0
    for began, now, end in ([tensor.detach().cpu().double() for tensor in tensors] for tensors in triples):
        moved += float((now - began).square().sum())
        distance += float((end - began).square().sum())
    return (moved / distance) ** 0.5 if distance > 0 else None
