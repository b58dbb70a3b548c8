"""Embeddings that a step looks up in two tables, as of users and items: the pairs, and how the loss moves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.scored_pairs import Scored
from striate.doctor.evidence.trial import Change
from striate.observe.gradients import on_gradient
from striate.observe.torch_calls import torch_functions

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_MOST_STEPS, _MOST_LOOKED_UP = 160, 16


class _LookedUp(NamedTuple):
    """One lookup in a table."""

    table: int
    """Address of the table's memory."""
    rows: torch.Tensor
    """(N,) indices."""
    vectors: torch.Tensor
    """(N, K) the vectors at these indices."""
    gradients: list[torch.Tensor]
    """(N, K) the gradients of the vectors."""


def looked_up_pairs(evidence: Evidence) -> list[tuple[Scored, Scored]]:
    """The embeddings of users with those of two items each, in some steps. The gradients are those of the dot products:
    positive where the loss moves an item's vector away from the user's."""
    if evidence.setup.rivals:
        return []
    found: dict[tuple[int, int], tuple[Scored, Scored]] = {}

    @contextmanager
    def watched(*_: Any) -> Iterator[None]:
        noted: list[_LookedUp] = []
        with torch_functions(lambda func, args, kwargs: _noted(noted, func, args, kwargs)):
            yield
        triples = list(_triples(noted))
        if not triples:
            raise NoEvidence("the step looks up no vectors of users with two items each")
        for users, places in triples:
            both = found.setdefault(places, (Scored(), Scored()))
            for scored, items in zip(both, (noted[place] for place in places), strict=True):
                scored.pairs.append((users.rows, items.rows))
                scored.gradients.append((sum(items.gradients) * users.vectors).sum(1))

    steps, change = min(len(evidence.train.raw), _MOST_STEPS), Change(around=watched, notes=found)
    return list(evidence.variant("with tables watched", change, steps=steps).notes.values())


def _noted(noted: list[_LookedUp], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = func(*args, **kwargs)
    table, rows = _table_and_rows(func, args)
    known = isinstance(rows, torch.Tensor) and rows.ndim == 1 and rows.dtype in (torch.int64, torch.int32)
    if known and table.ndim == 2 and value.requires_grad and len(noted) < _MOST_LOOKED_UP:
        gradients: list[torch.Tensor] = []
        on_gradient(value, lambda gradient: gradients.append(gradient.detach().float().cpu()))
        vectors = value.detach().float().cpu()
        noted.append(_LookedUp(table.data_ptr(), rows.detach().cpu().clone(), vectors, gradients))
    return value


def _table_and_rows(func: Any, args: tuple[Any, ...]) -> tuple[Any, Any]:
    if func is torch.nn.functional.embedding:
        return args[1], args[0]
    if func is torch.Tensor.__getitem__:
        return args[0], args[1]
    selects = func in (torch.index_select, torch.Tensor.index_select) and len(args) == 3 and args[1] == 0
    return (args[0], args[2]) if selects else (None, None)


def _triples(noted: list[_LookedUp]) -> Iterator[tuple[_LookedUp, tuple[int, int]]]:
    """Lookups of users, each with the positions of two lookups of items in another table."""
    for one, other in combinations(range(len(noted)), 2):
        a, b = noted[one], noted[other]
        if a.table != b.table or a.rows.shape != b.rows.shape or torch.equal(a.rows, b.rows):
            continue
        for users in noted:
            apart = users.table != a.table and users.vectors.shape == a.vectors.shape == b.vectors.shape
            if apart and a.gradients and b.gradients:
                yield users, (one, other)
                break
