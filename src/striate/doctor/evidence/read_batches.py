"""Batches as the user's loader yields them, read by a copy of it.
Which positions of which data set a loader draws from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from time import perf_counter
from types import NoneType
from typing import Any, TypeGuard, cast

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.batch import copied, main_tensor, parts, size_of
from striate.errors import DataError, one_line
from striate.models.preserved_state import same_random_state

MOST_SAMPLES = 4096
MOST_BATCHES = 256
MOST_BYTES = 256 * 2**20
DRAWN = 12
"""Samples that are asked for twice."""
_MOST_DRAWN = 100_000


@dataclass(frozen=True)
class Batches:
    """The first batches of an epoch, in the order of the loader."""

    raw: tuple[Any, ...]
    """As the loader yields them."""
    x: torch.Tensor | None
    """(N, …) inputs of all of them on the CPU; None where batches hold no tensors or cannot be concatenated."""
    y: torch.Tensor | None
    """(N, …) targets, likewise."""
    sizes: tuple[int, ...]
    whole: bool
    """Whether these are all batches of an epoch."""
    seconds: tuple[float, ...]
    """Loading time of each batch."""
    length: int | None
    """Samples of the data set, where it has a length."""

    @property
    def count(self) -> int:
        """Samples in the batches."""
        return sum(self.sizes)

    @property
    def largest(self) -> int:
        """Samples in the largest batch."""
        return max(self.sizes)

    @property
    def labels(self) -> torch.Tensor:
        """The targets as class numbers (N,). Raises NoEvidence where they are none."""
        if self.y is None or self.y.ndim != 1 or self.y.is_floating_point() or self.y.is_complex():
            if self.y is not None and self.y.ndim == 2 and self.y.shape[1] == 1 and not self.y.is_floating_point():
                return self.y[:, 0].long()
            raise NoEvidence("the targets are not class numbers")
        return self.y.long()

    @property
    def inputs(self) -> torch.Tensor:
        """The inputs (N, …). Raises NoEvidence where there is no single tensor of them."""
        if self.x is None:
            raise NoEvidence("the inputs are not one tensor of one shape")
        return self.x


def read_batches(loader: Iterable[Any], until: float, name: str) -> Batches:
    """Read until `until` (of perf_counter) at most, but for one batch. Raises DataError where none comes, or reading
    fails."""
    raw: list[Any] = []
    seconds: list[float] = []
    total, whole = 0, False
    # Of graphs that lie behind each other in a batch the first tensor has all nodes.
    most = getattr(loader, "batch_size", None) or MOST_SAMPLES
    iterator = iter(_in_this_process(loader))
    while True:
        started = perf_counter()
        try:
            batch = next(iterator, _END)
        except Exception as error:
            got = f"{type(error).__name__}: {one_line(str(error))[:200]}"
            raise DataError(
                name, got, "a loader that can be read", f"fix it until `for batch in {name}: pass` works"
            ) from None
        if batch is _END:
            whole = True
            break
        seconds.append(perf_counter() - started)
        raw.append(copied(batch))  # a loader may yield the same memory again
        total += _bytes(batch)
        samples = sum(min(size_of(part), most) for part in raw)
        if samples >= MOST_SAMPLES or total >= MOST_BYTES or len(raw) >= MOST_BATCHES or perf_counter() > until:
            with suppress(Exception):  # a sample that nobody asked for may be the one that cannot be read
                whole = perf_counter() < until and next(iterator, _END) is _END
            break
    if not raw:
        raise DataError(name, "a loader without batches", "at least one", "drop_last=False, or a smaller batch size")
    pairs = [parts(batch) for batch in raw]
    return Batches(
        tuple(raw),
        _joined([main_tensor(inputs) for inputs, _ in pairs]),
        _joined([main_tensor(targets) for _, targets in pairs]),
        tuple(size_of(batch) for batch in raw),
        whole,
        tuple(seconds),
        _length(loader),
    )


_END = object()


def _in_this_process(loader: Iterable[Any]) -> Iterable[Any]:
    """A copy of torch's loader without workers and without the iterator that the original may be in the middle of.
    What it shares with the original, generators and data set, is put back by `nothing_changes`."""
    if not isinstance(loader, DataLoader):
        return loader
    replica = copy.copy(loader)
    entries = vars(replica)
    entries.update(num_workers=0, persistent_workers=False, _iterator=None, prefetch_factor=None, timeout=0)
    entries.update(pin_memory=False, multiprocessing_context=None)
    # The multiprocessing context is a property over this.
    entries.pop("multiprocessing_context", None)
    entries["_DataLoader__multiprocessing_context"] = None
    return cast("Iterable[Any]", replica)


def _joined(tensors: list[torch.Tensor | None]) -> torch.Tensor | None:
    if any(tensor is None or not tensor.ndim for tensor in tensors):
        return None
    known = [tensor.detach().cpu() for tensor in tensors if tensor is not None]
    if len({(tensor.shape[1:], tensor.dtype) for tensor in known}) != 1:
        return None
    return torch.cat(known)


def _bytes(batch: Any) -> int:
    return sum(t.numel() * t.element_size() for part in parts(batch) if (t := main_tensor(part)) is not None)


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(cast(Any, getattr(loader, "dataset", None)))
    except TypeError:
        return None


def shared_positions(train: Any, val: Any) -> tuple[int, int] | None:
    """How many positions of validation are also drawn for training, and how many validation has; of two lists, how many
    samples that are one object. None where that cannot be told, or the two draw from different data sets."""
    one, other = positions_drawn(train), positions_drawn(val)
    if one is None or other is None:
        return None
    known, asked = one[1], other[1]
    if one[0] is not other[0]:
        known, asked = _objects_drawn(*one), _objects_drawn(*other)
    return (len(asked & known), len(asked)) if asked else None


def _objects_drawn(data: Any, chosen: set[int]) -> set[int]:
    """What Python knows the samples of a list by; none where it holds the same ones again and again, as numbers, words
    and what is drawn out of a few cases may be one object by chance."""
    samples = [data[number] for number in chosen] if type(data) is list else []
    found = {id(sample) for sample in samples if not isinstance(sample, str | bytes | int | float | NoneType)}
    return found if len(found) >= len(samples) / 2 else set()


def positions_drawn(loader: Any) -> tuple[Any, set[int]] | None:
    """The data set at the bottom, and the positions that may be drawn from it."""
    if not isinstance(loader, DataLoader):
        return None
    data = loader.dataset
    try:
        data, chosen = at_bottom(data, _numbers_drawn(loader))
    except Exception:  # a data set of the user's without a length, or of other positions than numbers
        return None
    return data, set(chosen)


def read_by_index(loader: Any) -> Any:
    """The data set of a loader, whose samples can be drawn again by their number. Raises NoEvidence elsewhere."""
    data = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or isinstance(data, IterableDataset) or data is None:
        raise NoEvidence("the data set cannot be read by index twice")
    return data


def at_bottom(data: Any, chosen: list[int]) -> tuple[Any, list[int]]:
    """The data set that others are made of, and where samples lie in it."""
    while (inner := data.dataset if isinstance(data, Subset) else _changed(data)) is not None:
        chosen = [int(data.indices[number]) for number in chosen] if isinstance(data, Subset) else chosen
        data = inner
    return data, chosen


def _numbers_drawn(loader: DataLoader[Any]) -> list[int]:
    """The positions that a loader may draw from its data set; of a sampler of another kind, or one of batches, those of
    one pass."""
    batches = loader.batch_sampler
    sampler = batches.sampler if type(batches) is BatchSampler else loader.sampler if batches is None else None
    if isinstance(sampler, SubsetRandomSampler):
        return [int(number) for number in sampler.indices]
    if isinstance(sampler, SequentialSampler | RandomSampler):
        return list(range(len(loader.dataset)))  # type: ignore[arg-type]
    drawn: Any = batches if sampler is None else sampler
    if isinstance(drawn, Iterator):
        raise TypeError("it can be gone over once only")
    with same_random_state():
        numbers = chain.from_iterable(drawn) if sampler is None else drawn
        return [int(number) for number in islice(numbers, _MOST_DRAWN)]


def _changed(data: Any) -> Any:
    """The one data set of torch's that another of the same length holds, as one that crops its samples; None where
    there is no such one."""
    held = [part for part in getattr(data, "__dict__", {}).values() if isinstance(part, Dataset)]
    return held[0] if len(held) == 1 and len(held[0]) == len(data) else None  # type: ignore[arg-type]


def draws_again(loader: Any) -> bool:
    """Whether a sampler may draw a sample several times in an epoch, or its order is the user's own matter."""
    if not isinstance(loader, DataLoader):
        return getattr(loader, "draws_again", False) is True
    if loader.batch_sampler is not None and type(loader.batch_sampler).__module__ != "torch.utils.data.sampler":
        return True
    # Accelerate's loaders say what they are given, and draw as their batches do.
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if getattr(sampler, "replacement", False):
        return True
    return type(sampler).__module__ not in ("torch.utils.data.sampler", "torch.utils.data.dataloader")


def drawn_anew(loader: Any) -> bool:
    """Whether the data set gives another input each time that it is asked for a sample. Raises NoEvidence where it
    cannot be asked twice."""
    data = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or isinstance(data, IterableDataset) or data is None:
        raise NoEvidence("the data set cannot be asked for a sample twice")
    try:
        pairs = [[main_tensor(parts(data[number])[0]) for _ in range(2)] for number in range(min(DRAWN, len(data)))]
    except Exception as error:  # a data set of the user's
        raise NoEvidence(f"the data set raises {type(error).__name__} when asked for a sample") from None
    return any(_differ(one, other) for one, other in pairs)


def has_own_collate(loader: Any) -> TypeGuard[DataLoader[Any]]:
    """Whether a loader asks a data set for samples by number, and makes batches by a function that is not torch's."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    return not loader.collate_fn.__module__.startswith("torch.")


def collated_anew(loader: Any) -> bool:
    """Whether the loader's own collate function makes other inputs of the same samples each time."""
    if not has_own_collate(loader):
        return False
    data: Any = loader.dataset
    try:
        samples = [data[number] for number in range(min(DRAWN, len(data)))]
        one, other = (main_tensor(parts(loader.collate_fn(list(samples)))[0]) for _ in range(2))
    except Exception:  # a data set and a function of the user's
        return False
    return _differ(one, other)


def _differ(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return one is not None and other is not None and (one.shape != other.shape or not torch.equal(one, other))
