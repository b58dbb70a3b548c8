"""Tensors inside a batch: where they lie, taken out, put back changed, and dealt into other batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

Path = tuple[Any, ...]


def leaves(batch: Any, path: Path = ()) -> Iterator[tuple[Path, torch.Tensor]]:
    """Each tensor of a batch with its place: keys and positions from the outside in."""
    if isinstance(batch, torch.Tensor):
        yield path, batch
    elif isinstance(batch, Mapping):
        for key, part in batch.items():
            yield from leaves(part, (*path, key))
    elif isinstance(batch, list | tuple):
        for number, part in enumerate(batch):
            yield from leaves(part, (*path, number))


def leaf(batch: Any, path: Path) -> torch.Tensor | None:
    """The tensor at a place; None where there is none."""
    return next((tensor for place, tensor in leaves(batch) if place == path), None)


def mapped(batch: Any, change: Callable[[Path, torch.Tensor], torch.Tensor], path: Path = ()) -> Any:
    """The batch with each tensor changed; what is no tensor stays."""
    if isinstance(batch, torch.Tensor):
        return change(path, batch)
    if isinstance(batch, Mapping):
        return type(batch)({key: mapped(part, change, (*path, key)) for key, part in batch.items()})  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(part, change, (*path, n)) for n, part in enumerate(batch)))
    if isinstance(batch, list | tuple):
        return type(batch)(mapped(part, change, (*path, n)) for n, part in enumerate(batch))
    return batch


def altered(batch: Any, path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with the tensor at `path` changed."""
    return mapped(batch, lambda place, tensor: change(tensor) if place == path else tensor)


def dealt_anew(batches: Sequence[Any], seed: int = 0) -> list[Any] | None:
    """The same samples in batches of the same sizes, in a random order; None where batches do not fit together."""
    places = [path for path, _ in leaves(batches[0])]
    sizes = [_length(batch) for batch in batches]
    if any([path for path, _ in leaves(batch)] != places for batch in batches) or None in sizes or not places:
        return None
    known = [size for size in sizes if size is not None]
    order = torch.randperm(sum(known), generator=torch.Generator().manual_seed(seed))
    pool: dict[Path, torch.Tensor] = {}
    for path in places:
        parts = [tensor for batch in batches if (tensor := leaf(batch, path)) is not None]
        if len({(part.shape[1:], part.dtype) for part in parts}) != 1:
            return None
        pool[path] = torch.cat([part.detach() for part in parts])
    chosen = order.split(known)
    return [_taken(batches[0], pool, rows) for rows in chosen]


def _taken(shape: Any, pool: dict[Path, torch.Tensor], rows: torch.Tensor) -> Any:
    return mapped(shape, lambda path, tensor: pool[path][rows.to(tensor.device)].clone())


def _length(batch: Any) -> int | None:
    """Samples of a batch; None where its tensors have several lengths."""
    lengths = {len(tensor) if tensor.ndim else -1 for _, tensor in leaves(batch)}
    return lengths.pop() if len(lengths) == 1 and -1 not in lengths else None
