"""How far a map can be trusted: copies of the network with shuffled weights, and removal of what the map marks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import nn

from striate.visualize.attribution.attributions import AnswerCheck
from striate.visualize.attribution.question import Question
from striate.visualize.attribution.removal import cell_means, cell_numbers, removed, without


@contextmanager
def shuffled(module: nn.Module, seed: int) -> Iterator[None]:
    """While the body runs, the numbers of each parameter are in random order: what was learned is lost, the
    distribution of the weights is not. Parameters get other memory meanwhile, so that none of their own is ever
    written."""
    generator = torch.Generator().manual_seed(seed)
    before = [(parameter, parameter.data) for parameter in module.parameters()]
    try:
        for parameter, values in before:
            order = torch.randperm(values.numel(), generator=generator).to(values.device)
            parameter.data = values.reshape(-1)[order].view(values.shape)
        yield
    finally:
        for parameter, values in before:
            parameter.data = values


ANSWER_COPIES, MAP_COPIES = 20, 6
SHARES = tuple(k / 20 for k in range(1, 11))
"""Up to half of the input is removed: with less left, no prediction tells much."""
ORDERS, _HALVES = 8, 64


def check_prediction(question: Question) -> AnswerCheck:
    """How strong the prediction is, in the network and in 20 copies with shuffled weights."""
    copies = []
    for seed in range(ANSWER_COPIES):
        with shuffled(question.module, seed):
            copies.append(_strength(question))
    return AnswerCheck(_strength(question), tuple(copies), question.kind == "number")


def _strength(question: Question) -> float:
    if question.kind == "number":
        return float(_bounded(question.scores(_halves(question))).double().std())
    outputs = question.outputs(question.x)
    if question.kind == "probabilities":
        outputs = outputs.clamp_min(1e-12).log()
    outputs = _bounded(outputs)
    return float(outputs.max() - outputs.mean())


def _halves(question: Question) -> torch.Tensor:
    """(64, …) the input without random halves of its cells, the same each time."""
    numbers = cell_numbers(question.spatial)
    shown = torch.rand(_HALVES, int(numbers.max()) + 1, generator=torch.Generator().manual_seed(0)) < 0.5
    return without(question.x, ~shown[:, numbers], removed(question.x))


def _bounded(outputs: torch.Tensor) -> torch.Tensor:
    """A copy may overflow."""
    return torch.nan_to_num(outputs, nan=0.0, posinf=1e30, neginf=-1e30)


def alike(values: torch.Tensor, again: Callable[[], torch.Tensor], question: Question) -> float | None:
    """The mean Spearman correlation of a map with what `again` gives for copies with shuffled weights; None for a map
    that is the same everywhere. A copy whose map is the same everywhere has nothing in common with it."""
    if not float(values.max()) > float(values.min()):
        return None
    found = []
    for seed in range(MAP_COPIES):
        with shuffled(question.module, seed):
            other = again()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constant maps
            one = float(spearmanr(values.flatten(), other.flatten()).statistic)
        found.append(one if math.isfinite(one) else 0.0)
    return sum(found) / len(found)


@dataclass(frozen=True)
class Deletion:
    """Removes parts of the input of `question`, cell by cell; `random` (orders, shares): the scores then, in random
    orders."""

    question: Question
    blank: torch.Tensor
    random: torch.Tensor

    def follow(self, values: torch.Tensor) -> torch.Tensor:
        """(shares,) the scores while cells are removed, those of the highest mean value first."""
        order = torch.argsort(cell_means(values), descending=True, stable=True)
        return _fall(self.question, self.blank, [order])[0]


def deletion_of(question: Question) -> Deletion:
    """The deletion of one input, with its random orders, the same each time."""
    blank = removed(question.x)
    cells = int(cell_numbers(question.spatial).max()) + 1
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(cells, generator=generator) for _ in range(ORDERS)]
    return Deletion(question, blank, _fall(question, blank, orders))


def _fall(question: Question, blank: torch.Tensor, orders: Sequence[torch.Tensor]) -> torch.Tensor:
    """(orders, shares) scores while cells are removed in each of these orders."""
    numbers = cell_numbers(question.spatial)
    rows = []
    for order in orders:
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        taken = torch.stack([place < max(1, round(share * len(order))) for share in SHARES])
        rows.append(question.scores(without(question.x, taken[:, numbers], blank)))
    return torch.stack(rows)
