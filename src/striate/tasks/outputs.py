"""Outputs of a network as a tree: one tensor, or tuples, lists and dicts of trees (several heads, a pyramid).
Constants of a task as tensors on a device, made once, since a copy to an accelerator blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch

from striate.data.targets import Ragged, join_targets

Outputs = Any
"""A tensor (N, …), or a tuple, list or dict of trees; every tensor has the samples on its first axis."""


def map_outputs(function: Callable[..., Any], outputs: Outputs, *others: Outputs) -> Outputs:
    """The tree of `function(tensor, …)` over the tensors (or `Ragged`) of trees of the same structure."""
    if isinstance(outputs, torch.Tensor | Ragged):
        return function(outputs, *others)
    if isinstance(outputs, dict):
        return {key: map_outputs(function, part, *(other[key] for other in others)) for key, part in outputs.items()}
    parts = [map_outputs(function, *aligned) for aligned in zip(outputs, *others, strict=True)]
    return tuple(parts) if isinstance(outputs, tuple) else parts


def leaves(outputs: Outputs) -> Iterator[torch.Tensor]:
    """The tensors of a tree, in order; for a `Ragged`, its fields."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, Ragged):
        yield from outputs.fields.values()
    else:
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from leaves(part)


def detached(outputs: Outputs) -> Outputs:
    """The tree, detached from the computation graph."""
    return outputs.detach() if isinstance(outputs, torch.Tensor) else map_outputs(torch.Tensor.detach, outputs)


def first_samples(outputs: Outputs, count: int) -> Outputs:
    """The tree of the first `count` samples."""
    return outputs[:count] if isinstance(outputs, torch.Tensor) else map_outputs(lambda t: t[:count], outputs)


def on_cpu(outputs: Outputs) -> Outputs:
    """The tree on the CPU."""
    return map_outputs(lambda part: part.cpu(), outputs)


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The trees of several batches, concatenated."""
    return map_outputs(lambda *aligned: join_targets(aligned), *parts)


def as_arrays(outputs: Outputs) -> Any:
    """The tree with NumPy arrays in place of tensors; a `Ragged` stays as it is."""
    return map_outputs(lambda part: part if isinstance(part, Ragged) else part.numpy(), outputs)


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(len(values),) float32 on `device`; the same object for each call, which must not be written to."""
    # A tensor made in inference mode could not take part in a later training step.
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)
