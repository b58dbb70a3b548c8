"""Outputs of a network as a tree: one tensor, or tuples, lists and dicts of such (several heads, a pyramid).
Numbers of a task as tensors where they are needed, made once: a copy to an accelerator is waited for.
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


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(len(values),) float32 on `device`; the same object each time, so nobody may write into it."""
    # A tensor made in inference mode could not take part in a later training step.
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)
