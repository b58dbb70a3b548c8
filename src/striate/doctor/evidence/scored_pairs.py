"""Scores that a network gives pairs of indices, as of users and items: the pairs, and how the loss moves the scores."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import Path, altered, leaf, leaves
from striate.models.preserved_state import same_random_state
from striate.observe.gradients import on_gradient
from striate.observe.module_calls import ModuleCall, module_calls
from striate.observe.tensors import tensors_in

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_MOST_STEPS, _MOST_NUMBERS, _TIMES = 160, 4_000_000, 5


@dataclass
class Scored:
    """A network output that scores pairs of indices, step by step."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """(N,) and (N,) the indices that the output depends on."""
    scores: list[torch.Tensor] = field(default_factory=list)
    """(N,) the scores; empty where they are unknown."""
    gradients: list[torch.Tensor] = field(default_factory=list)
    """(N,) the gradient of the loss by the scores."""

    @property
    def signs(self) -> torch.Tensor:
        """The signs of all gradients other than zero."""
        signs = torch.cat([torch.zeros(0), *self.gradients]).sign()
        return signs[signs != 0]


class _Watched:
    """Records the outputs of the network in some steps, by the number of the call and the position of the output."""

    def __init__(self) -> None:
        self.found: dict[tuple[int, int], Scored] = {}
        self._needed: dict[int, list[list[Path]]] = {}
        self._calls = 0

    def around(self, model: nn.Module, *_: Any) -> AbstractContextManager[Any]:
        """Record one step."""
        self._calls = 0
        return module_calls({"": model}, end=self._note)

    def _note(self, call: ModuleCall) -> None:
        outputs = list(tensors_in(call.output))
        if self._calls not in self._needed:
            self._needed[self._calls] = _needed(call, len(outputs))
        for place, (output, paths) in enumerate(zip(outputs, self._needed[self._calls], strict=False)):
            numbers = [leaf((call.args, call.kwargs), path) for path in paths]
            known = [one.detach().cpu() for one in numbers if one is not None and output.numel() == len(one)]
            if len(known) == len(numbers) == 2 and output.requires_grad:
                scored = self.found.setdefault((self._calls, place), Scored())
                scored.pairs.append((known[0], known[1]))
                scored.scores.append(output.detach().flatten().cpu())
                _note_gradient(output, scored.gradients)
        self._calls += 1


def scored_pairs(evidence: Evidence) -> list[tuple[Scored, Scored]]:
    """Pairs of outputs that score the same users with different items, in some steps. The user is the first of a
    pair."""
    if evidence.setup.rivals or sum(numbers.ndim == 1 for numbers in evidence.first.given) < 3:
        return []
    watched = _Watched()
    change = Change(around=watched.around, notes=watched.found)
    steps = min(len(evidence.train.raw), _MOST_STEPS)
    found: dict[Any, Scored] = evidence.variant("with scores of pairs watched", change, steps=steps).notes
    return [both for one, other in combinations(found.values(), 2) for both in _in_common(one, other)]


def shared_items(users: torch.Tensor, items: torch.Tensor) -> tuple[int, float]:
    """How often two users have two items in common, and how often they would if the items were shuffled; an item that a
    user has several times counts once."""
    each = torch.stack([users, items]).unique(dim=1)
    (them, rows), (those, columns) = (numbers.unique(return_inverse=True) for numbers in each)
    if len(them) * max(len(them), len(those)) > _MOST_NUMBERS:
        return 0, 0.0
    generator = torch.Generator().manual_seed(0)

    def twice(columns: torch.Tensor) -> int:
        held = torch.zeros(len(them), len(those))
        held[rows, columns] = 1.0
        common = (held @ held.T).triu(1)
        return int((common * (common - 1)).sum() / 2)

    dealt = (columns[torch.randperm(len(columns), generator=generator)] for _ in range(_TIMES))
    return twice(columns), sum(map(twice, dealt)) / _TIMES


def _note_gradient(output: torch.Tensor, gradients: list[torch.Tensor]) -> None:
    on_gradient(output, lambda gradient: gradients.append(gradient.detach().flatten().cpu()))


def _needed(call: ModuleCall, outputs: int) -> list[list[Path]]:
    """For each output, the places of the index arguments that it depends on."""
    given = call.args, call.kwargs
    paths = [path for path, tensor in leaves(given) if tensor.ndim == 1 and not tensor.is_floating_point()]

    def made(path: Path) -> list[torch.Tensor]:
        args, kwargs = altered(given, path, lambda numbers: numbers.roll(1))
        with torch.no_grad(), same_random_state():
            torch.manual_seed(0)
            return list(tensors_in(call.module.forward(*args, **kwargs)))

    plain, others = made(()), [made(path) for path in paths]
    return [
        [path for path, other in zip(paths, others, strict=True) if not torch.equal(plain[place], other[place])]
        for place in range(outputs)
    ]


def _in_common(one: Scored, other: Scored) -> Iterable[tuple[Scored, Scored]]:
    """The two outputs with the shared index first; empty unless they share exactly one of their two indices."""
    for a, b in product((0, 1), (0, 1)):
        pairs = list(zip(one.pairs, other.pairs, strict=False))
        shared = all(torch.equal(x[a], y[b]) for x, y in pairs)
        if shared and not any(torch.equal(x[1 - a], y[1 - b]) for x, y in pairs):
            yield _led_by(one, a), _led_by(other, b)
            return


def _led_by(scored: Scored, first: int) -> Scored:
    return replace(scored, pairs=[(pair[first], pair[1 - first]) for pair in scored.pairs])
