"""How the outputs of each layer, and their gradients, are distributed over a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from striate.account.signal.trace import Loss, per_sample, watch_pass
from striate.observe.gradients import on_gradient

BINS = 40
DECADES = (-10, 2)
"""Gradients are counted by the logarithm of their magnitude, as those of one layer span many powers of ten. Magnitudes
outside of 10^-10 to 10^2 are counted in the first or the last bin."""
_MOST = 50_000  # numbers of a layer that are counted, evenly spaced: shares are exact to half a percent


@dataclass(frozen=True)
class Histogram:
    """A histogram with bins of equal width. For gradients, the bins are over the base-10 logarithm of the magnitude,
    and `counts` leaves out zeros."""

    low: float
    """Left edge of the first bin."""
    high: float
    """Right edge of the last bin."""
    counts: tuple[int, ...]
    """How many numbers each bin has."""
    zeros: float
    """Share, 0 to 1, of all numbers that are exactly 0."""


@dataclass(frozen=True)
class LayerHistograms:
    """Histograms of one layer, activation or residual sum."""

    name: str
    kind: str
    """As in `SignalRow`."""
    outputs: Histogram
    """Outputs for all samples of the batch."""
    gradients: Histogram | None = None
    """Gradients of each sample's loss with respect to the outputs; None where the loss does not depend on them."""

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)


@dataclass
class _Seen:
    name: str
    kind: str
    outputs: Histogram
    gradients: list[Histogram] = field(default_factory=list)


def layer_histograms(module: nn.Module, inputs: torch.Tensor, loss: Loss) -> tuple[LayerHistograms, ...]:
    """Histograms of every layer that has a row in `trace_signal`, in the same order and from the same pass. The network
    is not changed. A module that is called twice has two records with the same name."""
    seen: list[_Seen] = []

    def note(name: str, kind: str, result: object) -> None:
        output = per_sample(result, len(inputs))
        if output is None:
            return
        layer = _Seen(name, kind, _of_values(output.detach()))
        seen.append(layer)
        # The loss is a mean over the batch: times the number of samples, this is the gradient of a sample's own loss.
        on_gradient(output, lambda gradient: layer.gradients.append(_of_magnitudes(gradient * len(inputs))))

    watch_pass(module, inputs, loss, note)
    return tuple(
        LayerHistograms(layer.name, layer.kind, layer.outputs, next(iter(layer.gradients), None)) for layer in seen
    )


def _of_values(values: torch.Tensor) -> Histogram:
    numbers = _some(values)
    zeros = _zeros(numbers)
    numbers = numbers[numbers.isfinite()]
    if not len(numbers):
        return Histogram(0.0, 1.0, (0,) * BINS, zeros)
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    return Histogram(low, high, _counts(numbers, low, high), zeros)


def _of_magnitudes(values: torch.Tensor) -> Histogram:
    numbers = _some(values.detach()).abs()
    low, high = DECADES
    known = numbers[numbers.isfinite() & (numbers > 0)].log10().clamp(low, high)
    return Histogram(low, high, _counts(known, low, high), _zeros(numbers))


def _some(values: torch.Tensor) -> torch.Tensor:
    flat = values.flatten()
    return flat[:: max(1, len(flat) // _MOST)].float().cpu()


def _zeros(numbers: torch.Tensor) -> float:
    return float((numbers == 0).float().mean())


def _counts(numbers: torch.Tensor, low: float, high: float) -> tuple[int, ...]:
    return tuple(int(count) for count in torch.histc(numbers, BINS, low, high))
