"""Batches that a copy of the user's loader yields, and the positions of its data set that a loader draws."""

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
from striate.doctor.setup.preserved_state import same_values
from striate.errors import DataError, one_line
from striate.models.preserved_state import same_random_state

MOST_SAMPLES = 4096
MOST_BATCHES = 256
MOST_BYTES = 256 * 2**20
DRAWN = 12
"""Number of samples that are read twice."""
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
        """(N,) the targets as class numbers. Raises NoEvidence where they are none."""
        if self.y is None or self.y.ndim != 1 or self.y.is_floating_point() or self.y.is_complex():
            if self.y is not None and self.y.ndim == 2 and self.y.shape[1] == 1 and not self.y.is_floating_point():
                return self.y[:, 0].long()
            raise NoEvidence("the targets are not class numbers")
        return self.y.long()

    @property
    def inputs(self) -> torch.Tensor:
        """(N, …) the inputs. Raises NoEvidence where they are not one tensor."""
        if self.x is None:
            raise NoEvidence("the inputs are not one tensor of one shape")
        return self.x


def read_batches(loader: Iterable[Any], until: float, name: str) -> Batches:
    """Read batches until the deadline `until` (on perf_counter), at least one. Raises DataError where there is none, or
    reading fails."""
    raw: list[Any] = []
    seconds: list[float] = []
    total, whole = 0, False
    # In a batch of concatenated graphs, the first tensor has a row for each node, not for each sample.
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
        raw.append(copied(batch))  # a loader may reuse the memory
        total += _bytes(batch)
        samples = sum(min(size_of(part), most) for part in raw)
        if samples >= MOST_SAMPLES or total >= MOST_BYTES or len(raw) >= MOST_BATCHES or perf_counter() > until:
            with suppress(Exception):  # this further sample may be one that cannot be read
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
    """A copy of a DataLoader without workers, and without the original's present iterator. It shares generators and
    data set with the original; `state_preserved` restores these."""
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
    """The number of validation positions that training draws too, and the number of all validation positions; for two
    lists, the number of samples that are the same object. None where unknown, or for different data sets."""
    one, other = positions_drawn(train), positions_drawn(val)
    if one is None or other is None:
        return None
    trained, validated = one[1], other[1]
    if one[0] is not other[0]:
        trained, validated = _objects_drawn(*one), _objects_drawn(*other)
    return (len(validated & trained), len(validated)) if validated else None


def _objects_drawn(data: Any, chosen: set[int]) -> set[int]:
    """The ids of the samples of a list; empty where few are distinct: numbers, strings and items drawn from a small set
    may be the same object by chance."""
    samples = [data[number] for number in chosen] if type(data) is list else []
    found = {id(sample) for sample in samples if not isinstance(sample, str | bytes | int | float | NoneType)}
    return found if len(found) >= len(samples) / 2 else set()


def positions_drawn(loader: Any) -> tuple[Any, set[int]] | None:
    """The innermost data set of a loader, and the positions that the loader may draw from it; None where unknown."""
    if not isinstance(loader, DataLoader):
        return None
    data = loader.dataset
    try:
        data, chosen = at_bottom(data, _numbers_drawn(loader))
    except Exception:  # the user's data set may have no length, or other keys than integers
        return None
    return data, set(chosen)


def read_by_index(loader: Any) -> Any:
    """The data set of a loader, whose samples can be read again by index. Raises NoEvidence where they cannot."""
    data = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or isinstance(data, IterableDataset) or data is None:
        raise NoEvidence("the data set cannot be read by index twice")
    return data


def at_bottom(data: Any, chosen: list[int]) -> tuple[Any, list[int]]:
    """The innermost data set, inside subsets and data sets that transform another, and the positions in it."""
    while (inner := data.dataset if isinstance(data, Subset) else _changed(data)) is not None:
        chosen = [int(data.indices[number]) for number in chosen] if isinstance(data, Subset) else chosen
        data = inner
    return data, chosen


def _numbers_drawn(loader: DataLoader[Any]) -> list[int]:
    """The positions that a loader may draw from its data set; for samplers of unknown kind, those of one pass."""
    batches = loader.batch_sampler
    sampler = batches.sampler if type(batches) is BatchSampler else loader.sampler if batches is None else None
    if isinstance(sampler, SubsetRandomSampler):
        return [int(number) for number in sampler.indices]
    if isinstance(sampler, SequentialSampler | RandomSampler):
        return list(range(len(loader.dataset)))  # type: ignore[arg-type]
    drawn: Any = batches if sampler is None else sampler
    if isinstance(drawn, Iterator):
        raise TypeError("the sampler can be iterated over only once")
    with same_random_state():
        numbers = chain.from_iterable(drawn) if sampler is None else drawn
        return [int(number) for number in islice(numbers, _MOST_DRAWN)]


def _changed(data: Any) -> Any:
    """The only data set of the same length that a data set has as an attribute, and whose samples it transforms; None
    where there is none."""
    held = [part for part in getattr(data, "__dict__", {}).values() if isinstance(part, Dataset)]
    return held[0] if len(held) == 1 and len(held[0]) == len(data) else None  # type: ignore[arg-type]


def repeats_samples(loader: Any) -> bool:
    """Whether a sampler may draw a sample several times in an epoch, or is not torch's."""
    if not isinstance(loader, DataLoader):
        return getattr(loader, "repeats_samples", False) is True
    if loader.batch_sampler is not None and type(loader.batch_sampler).__module__ != "torch.utils.data.sampler":
        return True
    # The `sampler` of Accelerate's loaders is not the one that draws; that of their `batch_sampler` is.
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if getattr(sampler, "replacement", False):
        return True
    return type(sampler).__module__ not in ("torch.utils.data.sampler", "torch.utils.data.dataloader")


def inputs_vary(loader: Any) -> bool:
    """Whether reading a sample of the data set twice returns two different inputs. Raises NoEvidence where a sample
    cannot be read twice."""
    data = getattr(loader, "dataset", None)
    if not isinstance(loader, DataLoader) or isinstance(data, IterableDataset) or data is None:
        raise NoEvidence("the loader has no data set whose samples can be read by index")
    try:
        pairs = [[main_tensor(parts(data[number])[0]) for _ in range(2)] for number in range(min(DRAWN, len(data)))]
    except Exception as error:  # a data set of the user's
        raise NoEvidence(f"the data set raises {type(error).__name__} when a sample is read") from None
    return any(_differ(one, other) for one, other in pairs)


def has_own_collate(loader: Any) -> TypeGuard[DataLoader[Any]]:
    """Whether a loader reads samples by index, and makes batches by a collate function that is not torch's."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    return not loader.collate_fn.__module__.startswith("torch.")


def collation_varies(loader: Any) -> bool:
    """Whether the loader's collate function returns different inputs for the same samples each time."""
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
    return one is not None and other is not None and (one.shape != other.shape or not same_values(one, other))
