"""Scores that stay 1 where samples get the right answers of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from striate.doctor.checks.eval.all_right import all_right, as_share, is_share, words_of
from striate.doctor.checks.eval.evaluated import MOST_STEPS, evaluations
from striate.doctor.checks.eval.of_a_perfect_network import asked_with
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called

FEWEST, _ONE = 10, 1 - 1e-6
_POOLS = ("set", "frozenset", "Counter")


@dataclass(frozen=True)
class Pooled:
    """A score that the call `text` gives by `name` although `count` samples get the answers of others."""

    where: str
    text: str
    name: str
    count: int


def scores_of_exchanged_answers(evidence: Evidence) -> Iterator[Pooled]:
    """Scores of evaluations that collect what was found in sets: without the number of its sample, what is right of one
    sample is right of all."""
    for site, function, given in evaluations(evidence):
        if not _collects_in_sets(evidence.source, site):
            continue
        evidence.clock.need(MOST_STEPS * len(evidence.val.raw) * evidence.step_seconds)
        exchanged = list[int]()

        def right(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
            return next(islice(all_right(evidence, outputs, labels.to(outputs.device)), 1), None)

        def others(outputs: torch.Tensor, labels: torch.Tensor, noted: list[int] = exchanged) -> torch.Tensor | None:
            moved = _exchanged(labels)
            noted.append(int((moved != labels).reshape(len(labels), -1).any(1).sum()))
            return right(outputs, moved)

        first = {name for name, value in asked_with(evidence, site, function, given, right) if _is_one(name, value)}
        for name, value in asked_with(evidence, site, function, given, others) if first else ():
            if name in first and _is_one(name, value) and sum(exchanged) >= FEWEST:
                yield Pooled(f"line {site.lineno}", ast.unparse(site), name, sum(exchanged))


def _is_one(name: str, value: float) -> bool:
    return is_share(words_of(name), True) and as_share(value) >= _ONE


def _exchanged(labels: torch.Tensor) -> torch.Tensor:
    """The labels of a batch, each sample's those of another whose labels are given at the same positions."""
    rows = (labels.reshape(len(labels), -1) >= 0).cpu()
    _, groups = rows.unique(dim=0, return_inverse=True)
    places = torch.arange(len(labels))
    for group in groups.unique():
        own = (groups == group).nonzero().flatten()
        places[own] = own.roll(1)
    return labels[places.to(labels.device)]


def _collects_in_sets(source: ScriptSource, site: ast.Call) -> bool:
    """Whether the function that is called, or one that it calls, makes a set."""
    functions = source.functions_of(site)
    functions += [
        inner
        for one in functions
        for part in ast.walk(one)
        if isinstance(part, ast.Call)
        for inner in source.functions_of(part)
    ]
    parts = (part for one in functions for part in ast.walk(one))
    return any(isinstance(part, ast.Set | ast.SetComp) or called(part) in _POOLS for part in parts)
