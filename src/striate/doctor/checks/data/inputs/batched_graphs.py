"""`data.scrambled` of graphs: a batch concatenates the nodes of many graphs, but its edges number the nodes of each
graph from 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, default_convert

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.graph_batches import has_ends
from striate.doctor.evidence.predictions import output_of
from striate.doctor.setup.batch import copied, is_binary, leaf, leaves
from striate.models.preserved_state import preserved, same_random_state
from striate.observe.tensors import tensors_in
from striate.observe.torch_calls import function_name, torch_functions
from striate.records import Finding

_GRAPHS, _FEWEST = 16, 4
_REACHED = 0.8
"""The share of graphs whose edges contain the last node: other tensors of two rows do not."""
_BY_NUMBER = """
__getitem__ __setitem__ index_select index_add index_copy index_put index_reduce gather take_along_dim scatter
scatter_add scatter_reduce sparse_coo_tensor
"""
_TAKES = frozenset(_BY_NUMBER.split())


def _run(evidence: Evidence) -> Iterator[Finding]:
    if not any(has_ends(tensor) for _, tensor in leaves(evidence.train.raw[0])):
        raise NoEvidence("no batch has edges between nodes")
    for batch, edges, graphs, nodes in (*_batches_of_graphs(evidence), *_batches_with_sizes(evidence)):
        if not _indexes_by(evidence, batch, edges):
            continue
        yield BATCHED_GRAPHS.finding(
            severity="error",
            where="the code that batches graphs",
            measured=f"in a batch of {graphs:,} graphs with {nodes:,} nodes in all, the {max(edges.shape):,} edges "
            f"only connect the first {int(edges.max()) + 1:,} nodes, and the network looks up nodes by these numbers",
            why="Each graph numbers its nodes from 0. Unless the count of all earlier nodes is added, edges "
            "connect nodes of the first graphs, and the other graphs have none.",
            remedy="add the count of all earlier nodes: `edges.append(graph_edges + offset); offset += graph_nodes`",
        )
        return


def _batches_of_graphs(evidence: Evidence) -> Iterator[tuple[Any, torch.Tensor, int, int]]:
    """Batches of the loader that concatenate the edges of graphs, with offsets that are wrong for half of the graphs or
    more; each with these edges and the numbers of graphs and nodes."""
    train = evidence.setup.train
    data: Any = getattr(train, "dataset", None)
    if not isinstance(train, DataLoader) or isinstance(data, IterableDataset) or data is None:
        return
    with suppress(Exception):  # the user's data set and collate function
        items = [data[number] for number in range(min(_GRAPHS, len(data)))]
        batch = train.collate_fn(items)
        known = [default_convert(vars(item) if hasattr(item, "__dict__") else item) for item in items]
        parts = [tensor for _, tensor in leaves(batch)]
        for path, first in leaves(known[0]):
            edges = [tensor for item in known if (tensor := leaf(item, path)) is not None and has_ends(tensor)]
            if len(edges) < max(_FEWEST, len(known)):
                continue
            axis = 1 if first.shape[0] == 2 else 0
            sizes = _node_counts(known, edges, axis)
            if not sizes or not any(len(part) == sum(sizes) for part in parts if part.ndim):
                continue
            for part in parts:
                moved = zip(_offsets(part, edges, axis), accumulate(sizes, initial=0), strict=False)
                if 2 * sum(by != before for by, before in moved) >= len(sizes):
                    yield batch, part, len(sizes), sum(sizes)


def _offsets(part: torch.Tensor, edges: list[torch.Tensor], axis: int) -> list[int]:
    """The offset of each graph's node numbers in a tensor that concatenates the edges of all graphs; empty for other
    tensors."""
    with suppress(RuntimeError):  # of several shapes
        joined, found = torch.cat(edges, axis).long(), part.cpu().long()
        found = found.T if found.ndim == 2 and found.shape != joined.shape else found
        if found.shape == joined.shape:
            each = (found - joined).split([ends.shape[axis] for ends in edges], axis)
            if all(bool((by == by[0, 0]).all()) for by in each):
                return [int(by[0, 0]) for by in each]
    return []


def _node_counts(items: list[Any], edges: list[torch.Tensor], axis: int) -> list[int]:
    """The number of nodes of each graph, by a tensor with a row for each node; empty where `edges` may not be edges."""
    last = [int(ends.max()) + 1 for ends in edges]
    for path, first in leaves(items[0]):
        rows = [len(tensor) for item in items if (tensor := leaf(item, path)) is not None and tensor.ndim]
        if len(rows) < len(items) or first is edges[0] or any(a < b for a, b in zip(rows, last, strict=True)):
            continue
        reached = sum(a == b for a, b in zip(rows, last, strict=True))
        apart = sum(
            a != ends.shape[axis] for a, ends in zip(rows, edges, strict=True)
        )  # otherwise two numbers for each node
        if reached >= _REACHED * len(rows) and (axis == 1 or 2 * apart >= len(rows)):
            return rows
    return []


def _batches_with_sizes(evidence: Evidence) -> Iterator[tuple[Any, torch.Tensor, int, int]]:
    """The same for batches that hold the graph of each node, or the number of nodes of each graph: all node numbers in
    edges are below the size of the largest graph, in each batch."""
    for path, tensor in leaves(evidence.train.raw[0]):
        if not has_ends(tensor) or tensor.shape[0] != 2:
            continue
        found = []
        for batch in evidence.train.raw:
            edges, sizes = leaf(batch, path), _graph_sizes(batch)
            if edges is not None and has_ends(edges) and len(sizes) >= _FEWEST:
                found.append(int(edges.max()) < int(sizes.max()) <= int(sizes.sum()) / 2)
        if found and all(found) and len(found) == len(evidence.train.raw):
            sizes = _graph_sizes(evidence.train.raw[0])
            yield evidence.train.raw[0], tensor, len(sizes), int(sizes.sum())


def _graph_sizes(batch: Any) -> torch.Tensor:
    """The number of nodes of each graph in a batch, by a graph number for each node, by counts, or by offsets; empty
    where a batch has none of these."""
    parts = [tensor for _, tensor in leaves(batch) if tensor.ndim]
    lengths = {len(tensor) for tensor in parts if tensor.is_floating_point()}
    for tensor in parts:
        if tensor.ndim != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool or len(tensor) < _FEWEST:
            continue
        steps = tensor.diff()
        if len(tensor) in lengths and int(tensor[0]) == 0 and is_binary(steps):
            return tensor.bincount()
        if int(tensor.min()) > 0 and int(tensor.sum()) in lengths:
            return tensor
        if int(tensor[0]) == 0 and bool((steps > 0).all()) and int(tensor[-1]) in lengths:
            return steps
    return torch.zeros(0)


def _indexes_by(evidence: Evidence, batch: Any, edges: torch.Tensor) -> bool:
    """Whether the network indexes by the numbers in edges unchanged: it may add the offsets itself."""
    ends = edges.cpu().long() if edges.shape[0] == 2 else edges.cpu().long().T
    found = []

    def around(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function_name(func) in _TAKES:
            for tensor in tensors_in([args[1:], args[:1] if func is torch.sparse_coo_tensor else (), kwargs]):
                if not tensor.is_floating_point() and tensor.ndim and tensor.numel():
                    index = tensor.detach().cpu()
                    index = index if index.shape == ends.shape else index.reshape(len(index), -1)[:, 0]
                    found.append(any(torch.equal(index, row) for row in (*ends, ends)))
        return func(*args, **kwargs)

    replica = evidence.fresh
    with suppress(NoEvidence), preserved(replica.model, evaluating=True), same_random_state(), torch_functions(around):
        output_of(evidence.setup, replica, copied(batch), training=False)
    return any(found)


BATCHED_GRAPHS = Check(
    codes=("data.scrambled",),
    threshold=f"{_FEWEST} graphs or more, half of them with edges whose offset is not the number of earlier nodes, "
    "or all node numbers in edges below the size of the largest graph, at most half of all; and the network looks "
    "up nodes by these numbers",
    run=_run,
    explains="data.labels-random data.target-in-input model.batch-mixing optim.lr-too-low fit.*",
)
