"""Batches that concatenate the nodes of many graphs, and descriptions of each graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from striate.doctor.setup.batch import is_binary, leaves

_MOST_KINDS, _MOST_COLUMNS = 64, 12


def has_ends(tensor: torch.Tensor) -> bool:
    """Whether a tensor may be a list of edges, (2, E) or (E, 2)."""
    integers = tensor.dtype in (torch.int64, torch.int32)
    return integers and tensor.ndim == 2 and 2 in tensor.shape and tensor.numel() > 0 and int(tensor.min()) >= 0


def graphs_described(batches: tuple[Any, ...], labels: torch.Tensor) -> torch.Tensor | None:
    """A description (N, D) of each of the N labeled graphs: the sum of its node features, and the sum over its edges of
    the products of both ends' features. None where batches are no such graphs."""
    kinds = _kinds(batches)
    found = [_described(batch, kinds) for batch in batches]
    known = [rows for rows in found if rows is not None]
    if len(known) < len(found) or len({rows.shape[1] for rows in known}) != 1 or sum(map(len, known)) != len(labels):
        return None
    return torch.cat(known)


def _kinds(batches: tuple[Any, ...]) -> int:
    """The number of node types, where nodes are given by type; 0 elsewhere."""
    nodes = (tensor for batch in batches for owner in _owners(batch) for tensor in _nodes(batch, owner))
    return max((int(tensor.max()) + 1 for tensor in nodes if not tensor.is_floating_point()), default=0)


def _described(batch: Any, kinds: int) -> torch.Tensor | None:
    owner = next(_owners(batch), None)
    if owner is None or not 0 <= kinds <= _MOST_KINDS:
        return None
    shown = []
    for tensor in _nodes(batch, owner):
        columns = tensor.reshape(len(tensor), -1)
        shown += [columns] if tensor.is_floating_point() else [functional.one_hot(c.long(), kinds) for c in columns.T]
    if not shown:
        return None
    nodes, count = torch.cat(shown, 1).float(), int(owner[-1]) + 1
    rows = [torch.ones(len(nodes), 1), nodes]
    parts = [torch.zeros(count, each.shape[1]).index_add(0, owner, each) for each in rows]
    for _, tensor in leaves(batch):
        edges = tensor.cpu().long()
        if has_ends(edges) and int(edges.max()) < len(owner) and nodes.shape[1] <= _MOST_COLUMNS:
            one, other = edges if edges.shape[0] == 2 else edges.T
            pairs = (nodes[one][:, :, None] * nodes[other][:, None]).flatten(1)
            parts.append(torch.zeros(count, pairs.shape[1]).index_add(0, owner[one], pairs))
    return torch.cat(parts, 1)


def _owners(batch: Any) -> Iterator[torch.Tensor]:
    """Tensors (nodes,) that number the graph of each node, from 0 and in order, next to another tensor of that
    length."""
    tensors = [tensor.detach().cpu() for _, tensor in leaves(batch) if tensor.ndim]
    for tensor in tensors:
        if tensor.ndim != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool or len(tensor) < 2:
            continue
        steps, count = tensor.diff(), int(tensor[-1]) + 1
        has_others = sum(len(other) == len(tensor) for other in tensors) > 1
        labeled = 1 < count < len(tensor) and any(len(other) == count for other in tensors)
        if int(tensor[0]) == 0 and is_binary(steps) and has_others and labeled:
            yield tensor.long()


def _nodes(batch: Any, owner: torch.Tensor) -> Iterator[torch.Tensor]:
    """The other tensors with a row for each node."""
    for _, tensor in leaves(batch):
        known = tensor.detach().cpu()
        features = known.ndim in (1, 2) and len(known) == len(owner) and known.is_floating_point()
        types = known.ndim == 1 and len(known) == len(owner) and not known.is_floating_point()
        if features or (types and not torch.equal(known.long(), owner) and int(known.min()) >= 0):
            yield known
