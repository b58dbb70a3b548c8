"""What the hidden units answer: for the sparsity penalty, and for measuring how sparse they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from striate.errors import ConfigError
from striate.models.untouched import untouched
from striate.observe.layer_calls import activation_kind
from striate.observe.module_calls import forward_hooks

SILENT = 0.01  # of the layer's root mean square: below it, a unit counts as silent


@dataclass(frozen=True)
class Activity:
    """Of one activation in one pass: `magnitude`, the mean absolute output (scalar, with its gradient); `counts` (2,)
    float64: how many outputs are silent (0, or below 0.01 of their root mean square), of how many."""

    magnitude: torch.Tensor
    counts: torch.Tensor


@contextmanager
def hidden_activity(module: nn.Module) -> Iterator[list[Activity]]:
    """Collects what all activation modules answer while open. Activations called as functions cannot be seen."""
    found: list[Activity] = []

    def look(_: nn.Module, __: object, output: torch.Tensor) -> None:
        # At once, and of a copy: what comes after may write into the output (`out += x`, an inplace dropout).
        found.append(_activity(output.to(torch.float32, copy=True)))

    with forward_hooks(after=[(m, look) for m in module.modules() if activation_kind(m) is not None]):
        yield found


def _activity(output: torch.Tensor) -> Activity:
    magnitudes = output.abs()
    with torch.no_grad():
        limit = SILENT * output.square().mean().sqrt()
        silent = (magnitudes <= limit).sum().double()
        counts = torch.stack([silent, torch.full_like(silent, output.numel())])
    return Activity(magnitudes.mean(), counts)


def sparsity_penalty(activity: list[Activity]) -> torch.Tensor:
    """Scalar: the mean absolute output of each layer, summed over layers (an L1 penalty on activations)."""
    return torch.stack([layer.magnitude for layer in activity]).sum()


def silent_and_all(activity: list[Activity]) -> torch.Tensor:
    """(2,) float64: how many outputs of all layers are silent, of how many."""
    return torch.stack([layer.counts for layer in activity]).sum(0)


def refuse_invisible_units(module: nn.Module, sparsity: float, sample: torch.Tensor) -> None:
    """Raise ConfigError for a penalty of `sparsity` where no activation module runs; `sample` is a normalized batch."""
    if not sparsity:
        return
    with untouched(module), torch.no_grad(), hidden_activity(module) as found:
        module(sample)
    if found:
        return
    there = any(activation_kind(m) is not None for m in module.modules())
    raise ConfigError(
        "regularize.sparsity",
        f"{sparsity:g} for a network {'whose activation modules never run' if there else 'without activation modules'}",
        "hidden units to look at: activations that are called as functions (torch.relu) cannot be seen",
        "make them modules (nn.ReLU()) and call those, or leave out --regularize.sparsity",
    )
