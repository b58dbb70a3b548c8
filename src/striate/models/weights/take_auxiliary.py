"""Auxiliary classifiers in a file of weights: left out where the network has none, new where the file has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from striate.models.weights.auxiliary_outputs import auxiliary_layers, auxiliary_prefixes

Tensors = dict[str, Any]


@dataclass(frozen=True)
class Comparable:
    """The tensors of a network and of a file that have to agree, one by one; `news` says what was put aside."""

    own: Tensors
    saved: Tensors
    news: tuple[str, ...] = ()


def without_lone_auxiliary(network: nn.Module, own: Tensors, saved: Tensors) -> Comparable:
    """`own` and `saved` without the auxiliary classifiers that only one of them has."""
    prefixes = auxiliary_prefixes(network)
    here = [prefix for prefix in prefixes if any(key.startswith(prefix) for key in own)]
    there = [prefix for prefix in prefixes if any(key.startswith(prefix) for key in saved)]
    if there and not here:
        news = f"its auxiliary classifiers ({_named(there)}) are left out: the network has none"
        return Comparable(own, _without(saved, prefixes), (news,))
    if here and not there:
        news = f"the auxiliary classifiers ({_named(here)}) are new: the file has none"
        return Comparable(_without(own, prefixes), saved, (news,))
    return Comparable(own, saved)


def layers_of_outputs(network: nn.Module, head: str | None) -> set[str]:
    """Names of the layers that give as many outputs as the network: `head`, and those of auxiliary classifiers."""
    return ({head} if head is not None else set()) | set(auxiliary_layers(network))


def _without(tensors: Tensors, prefixes: tuple[str, ...]) -> Tensors:
    return {key: value for key, value in tensors.items() if not key.startswith(prefixes)}


def _named(prefixes: list[str]) -> str:
    return ", ".join(prefix.rstrip(".") for prefix in prefixes)
