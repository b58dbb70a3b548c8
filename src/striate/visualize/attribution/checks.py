"""Attribution maps as records, and their checks: with shuffled weights, and by removing what the map marks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr
from torch import nn

from striate.visualize.attribution.maps import Method
from striate.visualize.attribution.question import Question
from striate.visualize.attribution.removal import cell_means, cell_numbers, removed, without
from striate.wording import several

MOST_ALIKE = 0.5
"""A map whose mean rank correlation with those of shuffled copies is higher does not show what was learned."""
LEAST_GAIN = 0.05
"""A map whose deletion gain is smaller does not show what the prediction depends on."""
LEAST_STRENGTH = 1.5
"""The strength of a prediction must be this many times that of the strongest shuffled copy."""
WRITTEN: dict[Method, str] = {
    "saliency": "saliency",
    "integrated-gradients": "integrated gradients",
    "smoothgrad": "SmoothGrad",
    "grad-cam": "Grad-CAM",
    "occlusion": "occlusion",
    "deconvnet": "deconvnet",
    "guided-backprop": "guided backpropagation",
}
NOT_TRUSTED = "not to be trusted"


@dataclass(frozen=True)
class PredictionCheck:
    """Has the network learned at all?

    A network with random weights resembles its copies with shuffled weights, so a strength far above theirs is a sign
    of learning.
    """

    strength: float
    """By how much the highest output exceeds the mean of all outputs; of a `number`, its standard deviation while
    random halves of the input are removed."""
    copies: tuple[float, ...]
    """The same of copies of the network with shuffled weights."""
    number: bool = False
    """Whether a single number is explained, without classes."""

    @property
    def learned(self) -> bool:
        """Whether the strength is at least 1.5 times the strongest copy's."""
        return self.strength >= LEAST_STRENGTH * max(self.copies)

    def sentence(self) -> str:
        """The result of the check in one sentence."""
        than = f"{several(len(self.copies), 'copy', 'copies')} of the network with shuffled weights"
        most = f"{max(self.copies):.3g} at most (the check takes {LEAST_STRENGTH:g} times as much)"
        if self.learned:
            most = f"{max(self.copies):.3g} at most"
        if self.number:
            what = "While random halves of the input are removed, the output varies by"
            return f"{what} {self.strength:.3g} (standard deviation); in {than} by {most}."
        return f"The highest output is {self.strength:.3g} above the mean of all outputs; in {than} {most}."

    def to_json(self) -> dict[str, Any]:
        """Strength of the network and of its copies, and the verdict."""
        return {"strength": self.strength, "shuffled": list(self.copies), "learned": self.learned}


@dataclass(frozen=True)
class MapCheck:
    """How far one map can be trusted."""

    alike: float | None
    """Mean Spearman rank correlation of the map with those of copies of the network with shuffled weights, -1 to 1
    (Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018); None where the map is the same everywhere."""
    copies: int
    """Number of these copies."""
    shares: tuple[float, ...]
    """Shares of the input that are removed, the most important positions first."""
    falling: tuple[float, ...]
    """What is left of the probability (or the number) after each share."""
    random: tuple[float, ...]
    """The same in random order, the mean of several orders."""
    gain: float
    """The mean of `random` minus that of `falling` (Petsiuk et al., "RISE", BMVC 2018)."""
    first: bool
    """Whether the probability falls at least as fast as in each of the random orders, one of which may be the map's own
    order where there are few features."""
    prediction_check: PredictionCheck
    """Whether the network has learned at all."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the map is not to be trusted; empty if it is."""
        found = []
        if self.alike is None:
            found.append("the map is the same everywhere")
        elif self.alike > MOST_ALIKE:
            found.append("networks with shuffled weights give nearly the same map")
        if self.gain < LEAST_GAIN or not self.first:
            found.append("the prediction does not depend on what the map marks")
        if not self.prediction_check.learned:
            found.append("networks with shuffled weights predict as confidently")
        return tuple(found)

    @property
    def trusted(self) -> bool:
        """Whether the map passes all checks."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """`trusted`, or `not to be trusted: ` and why."""
        return "trusted" if self.trusted else f"{NOT_TRUSTED}: {'; '.join(self.reasons)}"

    def to_json(self) -> dict[str, Any]:
        """All values of the check, their thresholds, and the verdict."""
        return {
            "rank_correlation": self.alike,
            "most_rank_correlation": MOST_ALIKE,
            "shuffled_copies": self.copies,
            "deletion_gain": self.gain,
            "least_deletion_gain": LEAST_GAIN,
            "deletion": {"share": list(self.shares), "map": list(self.falling), "random": list(self.random)},
            "trusted": self.trusted,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, eq=False)
class AttributionMap:
    """One attribution map with its check."""

    method: Method
    """The attribution method."""
    layer: str | None
    """The layer of Grad-CAM; None of all other methods."""
    values: NDArray[np.float32]
    """(*spatial) or (F,) float32, of each position or feature."""
    signed: bool
    """Whether negative values are evidence against the prediction."""
    check: MapCheck
    """How far the map can be trusted."""

    @property
    def name(self) -> str:
        """The method for readers, and its layer."""
        return WRITTEN[self.method] + ("" if self.layer is None else f" at {self.layer}")

    @property
    def peak(self) -> tuple[int, ...]:
        """The position with the highest mean over a window of a tenth of each side; of a table, the highest feature."""
        window = tuple(max(1, side // 10) if self.values.ndim > 1 else 1 for side in self.values.shape)
        means = uniform_filter(self.values.astype(np.float64), window, mode="constant")
        return tuple(int(place) for place in np.unravel_index(int(means.argmax()), means.shape))

    def to_json(self) -> dict[str, Any]:
        """Method, layer, the position of the highest value, and the check; the values themselves of a table."""
        values = {"values": self.values.tolist()} if self.values.ndim == 1 else {}
        return {"method": self.method, "layer": self.layer, "peak": list(self.peak)} | values | self.check.to_json()


@dataclass(frozen=True)
class Maps:
    """The maps of one prediction."""

    maps: tuple[AttributionMap, ...]
    """The one to show first in front."""
    why: str
    """Why the first map is shown first."""
    left_out: tuple[str, ...]
    """Why other maps could not be computed."""
    prediction_check: PredictionCheck
    """Whether the network has learned at all."""

    @property
    def chosen(self) -> AttributionMap:
        """The first one."""
        return self.maps[0]


@contextmanager
def shuffled(module: nn.Module, seed: int) -> Iterator[None]:
    """While the body runs, the values of each parameter are in random order: what was learned is lost, the distribution
    of the weights stays. The shuffled values are in other memory, so that the parameters themselves are not written."""
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


PREDICTION_COPIES, MAP_COPIES = 20, 6
SHARES = tuple(k / 20 for k in range(1, 11))
"""Shares of the input that are removed: at most half, since predictions for less than half say little."""
ORDERS, _HALVES = 8, 64


def check_prediction(question: Question) -> PredictionCheck:
    """The strength of the prediction in the network and in 20 copies with shuffled weights."""
    copies = []
    for seed in range(PREDICTION_COPIES):
        with shuffled(question.module, seed):
            copies.append(_strength(question))
    return PredictionCheck(_strength(question), tuple(copies), question.kind == "number")


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
    """The outputs without NaN and Inf: a copy with shuffled weights may overflow."""
    return torch.nan_to_num(outputs, nan=0.0, posinf=1e30, neginf=-1e30)


def alike(values: torch.Tensor, again: Callable[[], torch.Tensor], question: Question) -> float | None:
    """The mean Spearman correlation of a map with the maps that `again` computes for copies with shuffled weights; None
    for a constant map. A copy with a constant map counts as correlation 0."""
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
    """Removes parts of the input of a question, cell by cell."""

    question: Question
    """The question."""
    blank: torch.Tensor
    """The input with everything removed."""
    random: torch.Tensor
    """(orders, shares) the scores while cells are removed in random orders."""

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
