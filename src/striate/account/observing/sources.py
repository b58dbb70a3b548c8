"""Which entries the numbers of a tensor come from, noted on the tensor itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from striate.account.operation import Operation

if TYPE_CHECKING:
    from striate.account.observing.entries import Entry

Sources = tuple["Entry", ...]
"""The entries whose outputs a tensor is made of, through sums, concatenations and whatever else is no entry."""

_KEY = "_striate_sources"


def set_sources(tensors: Iterable[torch.Tensor], sources: Sources) -> None:
    """Note what tensors are made of."""
    for tensor in tensors:
        tensor.__dict__[_KEY] = sources


def sources_of(tensors: Iterable[torch.Tensor]) -> Sources:
    """What tensors are made of together, each entry once, in the order of the tensors."""
    found: dict[int, Entry] = {}
    for tensor in tensors:
        for entry in tensor.__dict__.get(_KEY, ()):
            found[id(entry)] = entry
    return tuple(found.values())


def follow_sources(operation: Operation, besides: Sources = ()) -> None:
    """The results of an operation are made of what its inputs are made of, and of `besides`."""
    sources = (*sources_of(operation.inputs()), *besides)
    if sources:
        set_sources(operation.outputs(), sources)
