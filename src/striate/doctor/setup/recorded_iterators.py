"""Iterators that a training step calls `next` on, recorded so that each trial gets the same items."""

from __future__ import annotations

import gc
import itertools
import types
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from striate.doctor.setup.batch import copied, leaves, main_tensor, parts, stacked
from striate.doctor.setup.reached_objects import reached_objects, written_by_user
from striate.observe.tensors import tensors_in

_MOST, _MOST_BYTES, _SECONDS = 40, 64 * 2**20, 1.0
_DEEPEST = 4
_ENDLESS = (itertools.cycle, itertools.islice, itertools.chain)
_READ_ONCE = (types.GeneratorType, _BaseDataLoaderIter, *_ENDLESS, zip, map, enumerate, filter)


class RecordedIterator:
    """Repeats the recorded items of an iterator, cyclically; empty where the iterator had ended. It replaces the
    original, `iterator`."""

    def __init__(self, iterator: Any, batches: list[Any]) -> None:
        self.iterator, self.batches, self.place = iterator, batches, 0

    def restarted(self) -> RecordedIterator:
        """The same iterator, at its beginning."""
        return RecordedIterator(self.iterator, self.batches)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self.batches:
            raise StopIteration
        batch = self.batches[self.place % len(self.batches)]
        self.place += 1
        return copied(batch)


class ReadOnceBatches:
    """Batches of an iterator that cannot be restarted. Each pass yields the batches that follow; a pass that begins at
    the iterator's end repeats those of earlier passes."""

    repeats_samples = True
    """A sample may come several times in an epoch."""

    def __init__(self, iterator: Iterator[Any], first: Any) -> None:
        self.iterator, self.known = iterator, [copied(first)]

    def __iter__(self) -> Iterator[Any]:
        for number in range(_MOST):
            try:
                batch = next(self.iterator)
            except Exception:  # the iterator has ended, or the user's code raised an error
                yield from self.known[: _MOST - number] if not number else ()
                return
            if len(self.known) < _MOST:
                self.known.append(copied(batch))
            yield batch


def is_read_once(thing: object) -> bool:
    """Whether it is an iterator that cannot be copied."""
    return isinstance(thing, _READ_ONCE)


def recorded_in(step: Callable[..., Any], main: object = None) -> list[RecordedIterator]:
    """Records of all iterators that a step can reach and that cannot be copied. No items are taken from the iterator
    `main`, whose batches the step receives."""
    found = [
        _recorded(thing, 0 if thing is main else _MOST) for thing in reached_objects((step,)) if is_read_once(thing)
    ]
    return [record for record in found if record is not None]


def _recorded(iterator: Any, most: int) -> RecordedIterator | None:
    """A record of the next items, taken for at most a second; None where the iterator is running, or raises an error at
    its first item."""
    found: list[Any] = []
    size, until = 0, perf_counter() + _SECONDS
    try:
        while len(found) < most and size < _MOST_BYTES and perf_counter() < until:
            found.append(copied(next(iterator)))
            size += sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(found[-1]))
    except StopIteration:
        pass
    except Exception:
        return RecordedIterator(iterator, found) if found else None
    return RecordedIterator(iterator, found)


def has_own_batch_sampler(loader: Any) -> bool:
    """Whether a batch sampler of the user's makes the batches. It may choose classes at random, so that each epoch has
    other rare classes."""
    sampler = getattr(loader, "batch_sampler", None)
    return sampler is not None and written_by_user(type(sampler).__module__)


def draws_own_batches(step: object) -> bool:
    """Whether a step draws batches of tensors besides the batch that it receives."""
    records: list[RecordedIterator] = getattr(step, "iterators", [])
    return any(tensor.ndim for record in records for tensor in tensors_in(record.batches[:1]))


def batches_of_iterator(iterator: Any) -> Any:
    """An iterable of the batches that an iterator yields: the loader that it reads, or one that reads the iterator;
    None where it yields no tensors, or parameters of a network."""
    frame = iterator.gi_frame if isinstance(iterator, types.GeneratorType) else None
    if frame is not None and str(frame.f_globals.get("__name__")).startswith("torch.nn"):
        return None
    try:
        first = next(iterator)
    except Exception:  # in the user's code
        return None
    tensors = list(tensors_in(first))
    if not any(tensor.ndim for tensor in tensors) or any(isinstance(tensor, nn.Parameter) for tensor in tensors):
        return None
    loader = _loader_behind(iterator)
    return loader if loader is not None and _yields_similar(loader, first) else ReadOnceBatches(iterator, first)


def _loader_behind(thing: Any, depth: int = 0) -> DataLoader[Any] | None:
    """The only loader that an iterator reads."""
    if isinstance(thing, DataLoader):
        return thing
    if isinstance(thing, _BaseDataLoaderIter):
        known = vars(thing)
        for loader in [found for found in gc.get_objects() if isinstance(found, DataLoader)]:
            if loader.dataset is known.get("_dataset") and loader._index_sampler is known.get("_index_sampler"):
                return loader
        return None
    if depth > _DEEPEST:
        return None
    held: list[Any] = []
    if isinstance(thing, types.GeneratorType):
        held = list(thing.gi_frame.f_locals.values()) if thing.gi_frame is not None else []
    elif isinstance(thing, _ENDLESS):
        held = gc.get_referents(thing)
    loaders = [_loader_behind(part, depth + 1) for part in held if isinstance(part, (DataLoader, *_READ_ONCE))]
    found = {id(loader): loader for loader in loaders if loader is not None}
    return next(iter(found.values())) if len(found) == 1 else None


def _yields_similar(loader: DataLoader[Any], batch: Any) -> bool:
    """Whether a loader's first batch has the same structure as another batch, and inputs of similar mean and deviation:
    nothing transforms the loader's batches then."""
    try:
        state = torch.get_rng_state()
        known = next(iter(loader))
        torch.set_rng_state(state)
    except Exception:  # a data set of the user's
        return False
    kinds = [[(path, t.dtype, t.ndim, t.device) for path, t in leaves(part)] for part in (known, batch)]
    one, other = (main_tensor(parts(stacked(part))[0]) for part in (known, batch))
    if kinds[0] != kinds[1] or one is None or other is None or one.numel() < 2 or other.numel() < 2:
        return kinds[0] == kinds[1]
    (mean, deviation), (its_mean, its_deviation) = (
        (float(t.double().mean()), float(t.double().std())) for t in (one, other)
    )
    return 0.5 * deviation <= its_deviation <= 2 * deviation and abs(mean - its_mean) <= 0.5 * deviation + 1e-6
