"""Copies of the network that the step's code names, and that no step runs or changes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.model.evaluated.average_statistics import means, without_buffers
from striate.doctor.checks.model.evaluated.code import CODE, averaged
from striate.doctor.checks.model.evaluated.copies import (
    Kept,
    are_chosen,
    are_kept_anew,
    copies_reached,
    named_tensors,
    noted,
    show_modules,
)
from striate.doctor.checks.model.evaluated.never_updated import in_idle_method
from striate.doctor.checks.model.evaluated.slow_averages import too_slow, too_slow_later
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE, Change
from striate.doctor.setup.reached_objects import reached_objects
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.training_setup import Step
from striate.observe.module_calls import forward_hooks_everywhere
from striate.records import Finding
from striate.wording import several


def copies_left_behind(evidence: Evidence) -> Iterator[Finding]:
    """Copies of the network that the step's code names, and neither runs nor changes."""
    reached = list(reached_objects((evidence.setup.step,)))
    theirs = {id(thing) for thing in reached if isinstance(thing, nn.Module)}
    saved = show_modules(reached) or are_kept_anew(evidence.setup.source)
    chosen = are_chosen(evidence.setup)

    def copies(replica: Replica) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
        found = copies_reached(replica, theirs)
        return (
            (thing, tensors)
            for thing, tensors in found
            if not (saved if hasattr(thing, "_metadata") else chosen and isinstance(thing, dict))
        )

    if evidence.setup.own_step or not list(copies(evidence.fresh)):
        return
    kept: Kept = []
    statistics: Kept = []
    ran: set[int] = set()

    def prepare(replica: Replica) -> None:
        for found, tensors in noted(copies(replica)):
            kept.append((found, tensors))
            if not isinstance(found, list):
                statistics.append((found, {name: mean.clone() for name, mean in means(found).items()}))

    def wrap(step: Step) -> Step:
        def watched(*given: Any) -> Any:
            with forward_hooks_everywhere(lambda part, _: ran.add(id(part))):
                return step(*given)

        return watched

    change = Change(prepare=prepare, wrap_step=wrap, notes=(kept, statistics, ran))
    trial = evidence.variant("with copies watched", change)
    kept, statistics, ran = trial.notes
    averages = [found for found, _ in kept if _updated_by_epoch(evidence, found)]
    by_epoch = {id(part) for average in averages for part in average.modules()}
    named = {id(found) for found, _ in copies(trial.replica)}  # a pure function gives a new one in its stead
    still = [
        found
        for found, before in kept
        if id(found) in named - ran - by_epoch
        and all(torch.equal(before[name], t) for name, t in named_tensors(found, before).items() if name in before)
    ]
    if trial.error is not None:
        return
    if not still:
        aside = [(found, before) for found, before in kept if id(found) not in ran]
        found = list(too_slow(evidence, trial, aside)) or list(without_buffers(evidence, trial, statistics))
        yield from found or too_slow_later(evidence, trial, aside, copies)
        return
    kind = type(still[0]).__name__
    yield Finding(
        code=CODE,
        severity="warning",
        where="the training step",
        measured=f"the step's code refers to a copy of the network ({kind}) that no step uses or changes: after "
        f"{several(len(trial.rows), 'step')} it is unchanged",
        threshold=f"a copy of the network that the step refers to and in {FEWEST_TO_JUDGE} steps neither runs nor "
        "changes",
        why="If the copy is evaluated or saved, it contains nothing of the training.",
        remedy=averaged("ema"),
    )


def _updated_by_epoch(evidence: Evidence, average: Any) -> bool:
    """Whether it is an average that the script, where there is one, updates, though no step does."""
    source = evidence.setup.source
    return (
        source is not None
        and isinstance(average, nn.Module)
        and hasattr(average, "update_parameters")
        and any(
            isinstance(site.node.func, ast.Attribute) and not in_idle_method(source, site.node.func)
            for site in source.calls("update_parameters")
        )
    )
