"""Scores that stay 1 if the right predictions of samples are exchanged with each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch

from striate.doctor.checks.eval.library_metrics import as_share, is_share, perfect_outputs, words_of
from striate.doctor.checks.eval.perfect_network import scores_with
from striate.doctor.checks.eval.script_evaluation import MOST_STEPS, evaluation_calls
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, nodes_in

FEWEST, _ONE = 10, 1 - 1e-6
_POOLS = ("set", "frozenset", "Counter")


@dataclass(frozen=True)
class PooledScore:
    """A score that is 1 although samples get the right predictions of others."""

    where: str
    """Line of the call that evaluates."""
    text: str
    """Source of the call."""
    name: str
    count: int
    """Number of samples with the predictions of others."""


def scores_of_exchanged_predictions(evidence: Evidence) -> Iterator[PooledScore]:
    """Scores of evaluations that collect predictions in sets without the index of the sample: a prediction that is
    right for one sample counts as right for all."""
    for site, function, arguments in evaluation_calls(evidence):
        if not _collects_in_sets(evidence.source, site):
            continue
        evidence.clock.need(MOST_STEPS * len(evidence.val.raw) * evidence.step_seconds)
        exchanged = list[int]()

        def right(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
            return next(islice(perfect_outputs(evidence, outputs, labels.to(outputs.device)), 1), None)

        def others(outputs: torch.Tensor, labels: torch.Tensor, noted: list[int] = exchanged) -> torch.Tensor | None:
            moved = _exchanged(labels)
            noted.append(int((moved != labels).reshape(len(labels), -1).any(1).sum()))
            return right(outputs, moved)

        scores = partial(scores_with, evidence, site, function, arguments)
        first = {name for name, value in scores(right) if _is_one(name, value)}
        for name, value in scores(others) if first else ():
            if name in first and _is_one(name, value) and sum(exchanged) >= FEWEST:
                yield PooledScore(f"line {site.lineno}", ast.unparse(site), name, sum(exchanged))


def _is_one(name: str, value: float) -> bool:
    return is_share(words_of(name), True) and as_share(value) >= _ONE


def _exchanged(labels: torch.Tensor) -> torch.Tensor:
    """The labels of a batch, each sample with those of another one that has labels at the same positions."""
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
    functions += [inner for part in nodes_in(functions, ast.Call) for inner in source.functions_of(part)]
    parts = nodes_in(functions)
    return any(isinstance(part, ast.Set | ast.SetComp) or called(part) in _POOLS for part in parts)
