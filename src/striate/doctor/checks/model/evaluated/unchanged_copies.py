"""Copies of the network that the step's code refers to, but that no step runs or changes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.model.evaluated.average_statistics import means, without_buffers
from striate.doctor.checks.model.evaluated.code import CODE, average_remedy
from striate.doctor.checks.model.evaluated.copies import (
    CopyStates,
    are_best_so_far,
    are_saved_again,
    copies_reached,
    named_tensors,
    share_memory,
    with_cloned_tensors,
)
from striate.doctor.checks.model.evaluated.never_updated import in_idle_function
from striate.doctor.checks.model.evaluated.slow_averages import too_slow, too_slow_later
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE, Change
from striate.doctor.setup.reached_objects import reached_objects
from striate.doctor.setup.replicas import Replica
from striate.observe.module_calls import forward_hooks_everywhere
from striate.records import Finding
from striate.wording import several


def unchanged_copies(evidence: Evidence) -> Iterator[Finding]:
    """Copies of the network that the step's code refers to, but neither runs nor changes; or else averages that follow
    the network too slowly, or without its batch statistics."""
    reached = list(reached_objects((evidence.setup.step,)))
    originals = {id(thing) for thing in reached if isinstance(thing, nn.Module)}
    saved = share_memory(reached) or are_saved_again(evidence.setup.source)
    best = are_best_so_far(evidence.setup)

    def find_copies(replica: Replica) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
        return (
            (thing, tensors)
            for thing, tensors in copies_reached(replica, originals)
            if not (saved if hasattr(thing, "_metadata") else best and isinstance(thing, dict))
        )

    if evidence.setup.own_step or not list(find_copies(evidence.fresh)):
        return
    copies: CopyStates = []
    statistics: CopyStates = []
    ran: set[int] = set()

    def prepare(replica: Replica) -> None:
        for thing, tensors in with_cloned_tensors(find_copies(replica)):
            copies.append((thing, tensors))
            if not isinstance(thing, list):
                statistics.append((thing, {name: mean.clone() for name, mean in means(thing).items()}))

    change = Change(
        prepare=prepare,
        around=lambda *_: forward_hooks_everywhere(lambda part, _: ran.add(id(part))),
        notes=(copies, statistics, ran),
    )
    trial = evidence.variant("with copies watched", change)
    copies, statistics, ran = trial.notes
    averages = [thing for thing, _ in copies if _updated_by_epoch(evidence, thing)]
    by_epoch = {id(part) for average in averages for part in average.modules()}
    reached_now = {
        id(thing) for thing, _ in find_copies(trial.replica)
    }  # a pure function replaces its copy by a new one
    unchanged = [
        thing
        for thing, before in copies
        if id(thing) in reached_now - ran - by_epoch
        and all(torch.equal(before[name], t) for name, t in named_tensors(thing, before).items() if name in before)
    ]
    if trial.error is not None:
        return
    if not unchanged:
        not_run = [(thing, before) for thing, before in copies if id(thing) not in ran]
        findings = list(too_slow(evidence, trial, not_run)) or list(without_buffers(evidence, trial, statistics))
        yield from findings or too_slow_later(evidence, trial, not_run, find_copies)
        return
    kind = type(unchanged[0]).__name__
    yield Finding(
        code=CODE,
        severity="warning",
        where="the training step",
        measured=f"the step's code refers to a copy of the network ({kind}) that no step uses or changes: after "
        f"{several(len(trial.rows), 'step')} it is unchanged",
        threshold=f"a copy of the network that the step refers to and in {FEWEST_TO_JUDGE} steps neither runs nor "
        "changes",
        why="If the copy is evaluated or saved, it contains nothing of the training.",
        remedy=average_remedy("ema"),
    )


def _updated_by_epoch(evidence: Evidence, average: Any) -> bool:
    """Whether the script updates an average, though no step does."""
    source = evidence.setup.source
    return (
        source is not None
        and isinstance(average, nn.Module)
        and hasattr(average, "update_parameters")
        and any(
            isinstance(site.node.func, ast.Attribute) and not in_idle_function(source, site.node.func)
            for site in source.calls("update_parameters")
        )
    )
