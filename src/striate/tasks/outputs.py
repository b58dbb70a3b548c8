"""Outputs of a network as a tree: one tensor, or tuples, lists and dicts of such (several heads, a pyramid)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from striate.data.targets import Ragged, join_targets

Outputs = Any
"""A tensor (N, …), or a tuple, list or dict of trees; every tensor has the samples on its first axis."""


def map_outputs(function: Callable[..., Any], outputs: Outputs, *others: Outputs) -> Outputs:
    """The tree of `function(tensor, …)` for each tensor (or `Ragged`) of trees of one form."""
    if isinstance(outputs, torch.Tensor | Ragged):
        return function(outputs, *others)
    if isinstance(outputs, dict):
        return {key: map_outputs(function, part, *(other[key] for other in others)) for key, part in outputs.items()}
    parts = [map_outputs(function, *aligned) for aligned in zip(outputs, *others, strict=True)]
    return tuple(parts) if isinstance(outputs, tuple) else parts


def leaves(outputs: Outputs) -> Iterator[torch.Tensor]:
    """The tensors of a tree, in order; the fields of what is ragged."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, Ragged):
        yield from outputs.fields.values()
    else:
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from leaves(part)


def detached(outputs: Outputs) -> Outputs:
    """The tree without its history."""
    return outputs.detach() if isinstance(outputs, torch.Tensor) else map_outputs(torch.Tensor.detach, outputs)


def first_samples(outputs: Outputs, count: int) -> Outputs:
    """The tree of the first `count` samples."""
    return outputs[:count] if isinstance(outputs, torch.Tensor) else map_outputs(lambda t: t[:count], outputs)


def on_cpu(outputs: Outputs) -> Outputs:
    """The tree in memory."""
    return map_outputs(lambda part: part.cpu(), outputs)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Trees of batches as one of all their samples."""
    return map_outputs(lambda *aligned: join_targets(aligned), *parts)


def as_arrays(outputs: Outputs) -> Any:
    """The tree with NumPy arrays in place of tensors; what is ragged stays as it is."""
    return map_outputs(lambda part: part if isinstance(part, Ragged) else part.numpy(), outputs)
