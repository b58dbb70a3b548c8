"""The parts of a batch: inputs, targets, and tensors with their places; and the call of a network with them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from striate.doctor.setup.reached_objects import written_by_user

_INPUTS = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "data", "features", "signal", "signals")
_TARGETS = ("y", "target", "targets", "label", "labels", "class", "classes", "mask", "masks")

_ADDITIONAL = {"mask", "ids", "id", "idx", "index", "length", "lengths", "type", "position", "weight", "weights"}
"""Words in names of tensors that are neither inputs nor targets."""
_TRUE = {"gt", "truth", "target", "targets", "label", "labels"}
"""Words in longer names of targets, as in `gt_semantic_seg`; names of targets in a named tuple."""


def parts(batch: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch: (x, y), (x, y, lengths), or (x, …, y), whose inputs are a tuple; a dictionary or
    data class with the usual names; a named tuple, whose targets may have one. A tensor alone is both inputs and
    targets, as for reconstruction."""
    if isinstance(batch, Mapping):
        return _of_mapping(batch)
    if (held := fields_of(batch)) is not None:
        inputs, targets = _of_mapping(held)
        return batch if inputs is held else inputs, batch if targets is held else targets
    if isinstance(batch, list | tuple):
        for number, name in enumerate(getattr(batch, "_fields", ())):
            if name.lower() in {"y", *_TRUE} and isinstance(batch[number], torch.Tensor):
                batch = (*batch[:number], *batch[number + 1 :], batch[number])
                break
        if len(batch) == 1:
            return batch[0], batch[0]
        if len(batch) == 3 and _are_lengths(batch[2], batch[1]) and _are_lengths(batch[2], batch[0]):
            return (batch[0], batch[2]), batch[1]
        return (batch[0], batch[1]) if len(batch) == 2 else (tuple(batch[:-1]), batch[-1])
    return batch, batch


def fields_of(value: Any) -> dict[str, Any] | None:
    """The fields of an object of a data class by name, or the tensors of an object of the user's class; else None."""
    if isinstance(value, type | nn.Module | Mapping | torch.Tensor | list | tuple):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not written_by_user(type(value).__module__) or not hasattr(value, "__dict__"):
        return None
    return {name: part for name, part in vars(value).items() if isinstance(part, torch.Tensor)} or None


def _are_lengths(lengths: Any, rows: Any) -> bool:
    """Whether integers are the lengths of padded rows: the same number follows each row's end, and one row is full."""
    if not (isinstance(lengths, torch.Tensor) and isinstance(rows, torch.Tensor)):
        return False
    if lengths.is_floating_point() or lengths.shape != rows.shape[:1] or rows.ndim < 2 or not len(rows):
        return False
    places = torch.arange(rows.shape[1], device=lengths.device)
    padding = rows[(places >= lengths[:, None]).to(rows.device)]
    if int(lengths.max()) != rows.shape[1] or int(lengths.min()) < 1 or not len(padding):
        return False
    return bool((padding == padding[0]).all())


def _of_mapping(batch: Mapping[Any, Any]) -> tuple[Any, Any]:
    target = next((key for key in batch if str(key).lower() in _TARGETS), None)
    if target is None:
        target = next((key for key in batch if _TRUE & set(str(key).lower().split("_"))), None)
    named = next((key for key in batch if str(key).lower() in _INPUTS and key != target), None)
    others = [key for key, part in batch.items() if key not in (named, target) and isinstance(part, torch.Tensor)]
    known = not any(_ADDITIONAL & set(str(key).lower().split("_")) for key in others)
    if target is None and named is not None and len(others) == 1 and known:  # as `box` with `pixel_values`
        target = others[0]
    if target is None and named is None and len(others) == 2 and known:  # in order, as in a tuple: `noisy`, `clean`
        named, target = others
    if named is None:
        rest = [key for key in batch if key != target and isinstance(batch[key], torch.Tensor)]
        named = rest[0] if rest else None
    inputs = batch if named is None else batch[named]
    return inputs, (inputs if target is None else batch[target])


def call(model: nn.Module, inputs: Any) -> Any:
    """The outputs of the network for inputs; a tuple of inputs is passed as several arguments."""
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def main_tensor(value: Any) -> torch.Tensor | None:
    """The most important tensor in outputs or inputs: `logits`, else the first float tensor, else the first tensor; a
    scalar, such as a loss, only where there is nothing else. None without tensors."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        if isinstance(value.get("logits"), torch.Tensor):
            return value["logits"]  # type: ignore[no-any-return]
        value = list(value.values())
    if (held := fields_of(value)) is not None and not isinstance(held.get("logits"), torch.Tensor):
        value = list(held.values())
    if isinstance(value, list | tuple):
        found = [tensor for part in value if (tensor := main_tensor(part)) is not None]
        fractions = [tensor for tensor in found if tensor.is_floating_point()] or found
        return next((tensor for tensor in fractions if tensor.ndim), fractions[0] if fractions else None)
    logits = getattr(value, "logits", None)
    return logits if isinstance(logits, torch.Tensor) else None


def placed(value: Any, device: torch.device) -> Any:
    """The batch with its tensors on `device`."""
    return mapped(value, lambda _, tensor: tensor.to(device))


def copied(value: Any) -> Any:
    """The batch with copies of its tensors, which a step may write into."""
    return mapped(value, lambda _, tensor: tensor.detach().clone().requires_grad_(tensor.requires_grad))


def size_of(batch: Any) -> int:
    """How many samples a batch has: the length of its first tensor."""
    tensor = main_tensor(parts(batch)[0])
    return len(tensor) if tensor is not None and tensor.ndim else 0


def batches_of(loader: Any) -> int | None:
    """The number of batches of a loader; None where it has no length, as for streams."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def is_binary(values: torch.Tensor) -> bool:
    """Whether all values are 0 or 1."""
    return bool(((values == 0) | (values == 1)).all())


def are_records(batch: Any) -> bool:
    """Whether a batch is a list of one dictionary for each sample, as `collate_fn=list` leaves them."""
    return isinstance(batch, list) and bool(batch) and all(isinstance(record, Mapping) for record in batch)


def stacked(batch: Any) -> Any:
    """The batch with one dictionary of stacked tensors in place of each list of dictionaries."""
    if are_records(batch):
        with suppress(RuntimeError, TypeError, KeyError):  # the tensors may have several sizes
            return default_collate(batch)
    return tuple(map(stacked, batch)) if isinstance(batch, tuple) else batch


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
    elif (held := fields_of(batch)) is not None:
        yield from leaves(held, path)


def leaf(batch: Any, path: Path) -> torch.Tensor | None:
    """The tensor at a place; None where there is none."""
    return next((tensor for place, tensor in leaves(batch) if place == path), None)


def mapped(batch: Any, change: Callable[[Path, torch.Tensor], torch.Tensor], path: Path = ()) -> Any:
    """The batch with each tensor changed; what is not a tensor stays."""
    if isinstance(batch, torch.Tensor):
        return change(path, batch)
    if isinstance(batch, Mapping):
        return type(batch)({key: mapped(part, change, (*path, key)) for key, part in batch.items()})  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(part, change, (*path, n)) for n, part in enumerate(batch)))
    if isinstance(batch, list | tuple):
        return type(batch)(mapped(part, change, (*path, n)) for n, part in enumerate(batch))
    if (held := fields_of(batch)) is not None:
        batch = copy.copy(batch)
        for name, part in held.items():
            object.__setattr__(batch, name, mapped(part, change, (*path, name)))  # the data class may be frozen
    return batch


def altered(batch: Any, path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The batch with the tensor at `path` changed."""
    return mapped(batch, lambda place, tensor: change(tensor) if place == path else tensor)


def reshuffled(batches: Sequence[Any], rows: torch.Tensor | None = None) -> list[Any] | None:
    """Batches of the same sizes with the same samples, or `rows` (N,) of them, in random order; None where the batches
    differ in structure or shape."""
    places = [path for path, _ in leaves(batches[0])]
    sizes = [_length(batch) for batch in batches]
    if any([path for path, _ in leaves(batch)] != places for batch in batches) or None in sizes or not places:
        return None
    known = [size for size in sizes if size is not None]
    rows = torch.arange(sum(known)) if rows is None else rows
    order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    pool: dict[Path, torch.Tensor] = {}
    for path in places:
        parts = [tensor for batch in batches if (tensor := leaf(batch, path)) is not None]
        if len({(part.shape[1:], part.dtype) for part in parts}) != 1:
            return None
        pool[path] = torch.cat([part.detach() for part in parts])
    chosen = order.split(known if len(order) == sum(known) else max(known))
    return [_taken(batches[0], pool, rows) for rows in chosen]


def _taken(shape: Any, pool: dict[Path, torch.Tensor], rows: torch.Tensor) -> Any:
    return mapped(shape, lambda path, tensor: pool[path][rows.to(tensor.device)].clone())


def _length(batch: Any) -> int | None:
    """The number of samples of a batch; None where its tensors have several lengths."""
    lengths = {len(tensor) if tensor.ndim else -1 for _, tensor in leaves(batch)}
    return lengths.pop() if len(lengths) == 1 and -1 not in lengths else None
