"""Whole batches of raw inputs in an order that depends only on (seed, epoch).

Stored inputs are read in the background while the caller computes. Inputs in memory that do not fit on the accelerator
are sent there batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.counter_random import hash_key
from striate.data.dataset import Split
from striate.data.store.stored import Inputs, StoredInputs, channel_sums
from striate.data.targets import Targets
from striate.data.threads import map_ordered
from striate.data.transfer import copied_ahead, fits_on, sent

AHEAD_BYTES = 64 << 20
"""Batches are read ahead to about so many bytes, but always the next one."""
_WINDOW_BATCHES = 8


@dataclass(frozen=True)
class _Piece:
    """Rows to be read into `out`; `ends` are the bounds of the batches of the window of which this is the last."""

    rows: NDArray[np.int64]
    out: NDArray[Any]
    window: NDArray[Any]
    ends: tuple[tuple[int, int], ...]


def read_ahead(
    inputs: StoredInputs, bounds: Sequence[tuple[int, int]], order: NDArray[np.int64]
) -> Generator[torch.Tensor, None, None]:
    """The inputs of each batch, from `bounds[k][0]` to `bounds[k][1]` of the `order`, in memory.

    A source that is read by one thread is read several batches at once, since sorted reading is faster; one that needs
    threads is read in small pieces by all of them. Threads end with the iterator.
    """
    piece = inputs.source.piece
    sample = int(np.prod(inputs.shape[1:])) * inputs.source.dtype.itemsize
    batch = max((stop - start for start, stop in bounds), default=1) * sample
    budget = max(1, AHEAD_BYTES // batch)
    if piece is None:
        window, workers, ahead = max(1, min(_WINDOW_BATCHES, budget // 2)), 1, 2
    else:
        window, workers = 1, inputs.source.threads
        pieces = -(-batch // (piece * sample))
        ahead = max(workers, pieces * min(budget, 3))

    def read(part: _Piece) -> _Piece:
        inputs.source.read(part.rows, part.out)
        return part

    for part in map_ordered(read, _pieces(inputs, bounds, order, window, piece), chunk=1, workers=workers, ahead=ahead):
        for start, stop in part.ends:
            yield torch.from_numpy(part.window[start:stop])


def _pieces(
    inputs: StoredInputs,
    bounds: Sequence[tuple[int, int]],
    order: NDArray[np.int64],
    window: int,
    piece: int | None,
) -> Iterator[_Piece]:
    for first in range(0, len(bounds), window):
        batches = bounds[first : first + window]
        rows = inputs.rows[np.concatenate([order[a:b] for a, b in batches])]  # there may be gaps between batches
        out = np.empty((len(rows), *inputs.shape[1:]), inputs.source.dtype)
        last_ones = np.cumsum([b - a for a, b in batches]).tolist()
        ends = tuple(zip([0, *last_ones[:-1]], last_ones, strict=True))
        step = piece or len(rows)
        for a in range(0, len(rows), step):
            last = a + step >= len(rows)
            yield _Piece(rows[a : a + step], out[a : a + step], out, ends if last else ())


@dataclass(frozen=True, eq=False)
class HostImages:
    """`images` (N, C, H, W), as a `Source`."""

    images: NDArray[Any]

    @property
    def dtype(self) -> np.dtype:
        """Of the images."""
        return self.images.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.images.shape

    @property
    def piece(self) -> None:
        """One thread copies: memory is what takes time."""
        return

    @property
    def threads(self) -> int:
        """That one."""
        return 1

    def read(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the images `rows` into `out`."""
        np.take(self.images, rows, axis=0, out=out)

    def sums(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Sums and sums of squares by channel of the images `rows`."""
        parts = [channel_sums(self.images[rows[a : a + 64]]) for a in range(0, len(rows), 64)]
        return np.concatenate(parts) if parts else np.zeros((0, self.shape[1], 2))


@dataclass(frozen=True)
class Batch:
    """Raw inputs (B, C, *spatial) or (B, F), targets (B, …) and sample ids (B,), as in `Split`; ids in memory.

    They may be a part of the batch: from sample number `start` on, of `samples` in all (None: these are all)."""

    inputs: torch.Tensor
    targets: Targets
    ids: torch.Tensor
    start: int = 0
    samples: int | None = None

    @property
    def whole(self) -> int:
        """How many samples the batch has in all its parts."""
        return len(self.ids) if self.samples is None else self.samples


def epoch_order(samples: int, seed: int, epoch: int) -> torch.Tensor:
    """(samples,) int64: the order in which an epoch visits the samples, each once."""
    generator = torch.Generator().manual_seed(hash_key(seed, epoch, 0))
    return torch.randperm(samples, generator=generator)


def order_by_class(labels: torch.Tensor, each: int, seed: int, epoch: int) -> torch.Tensor:
    """(N,) int64: an order in which every `each` samples that follow one another are of one class, a class being spread
    over the epoch, so that a batch of P × `each` has about P classes. A class has as many of these as it has samples;
    where its number is no multiple of `each`, the last is filled up with others of its samples."""
    rng = np.random.default_rng(hash_key(seed, epoch, 0))
    numbers = labels.cpu().numpy()
    parts: list[NDArray[np.int64]] = []
    places: list[NDArray[np.float64]] = []
    for number in np.unique(numbers):
        rows = rng.permutation(np.flatnonzero(numbers == number))
        count = -(-len(rows) // each)
        # From the start again: a class with fewer samples than `each` repeats them.
        parts.append(np.resize(rows, count * each).reshape(count, each))
        places.append((np.arange(count) + rng.random()) / count)
    order = np.argsort(np.concatenate(places), kind="stable")
    return torch.from_numpy(np.concatenate(parts)[order].reshape(-1)[: len(numbers)])


def batch_bounds(samples: int, batch: int) -> list[tuple[int, int]]:
    """Start and stop of each batch of an epoch: all of size `batch` but the last, which holds the rest.

    A rest of one sample joins the batch before it: batch normalization has no variance over one sample.
    """
    starts = list(range(0, samples, batch))
    if len(starts) > 1 and samples - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], samples], strict=True))


def batches(
    split: Split,
    batch: int,
    *,
    order: torch.Tensor | None = None,
    first: int = 0,
    stop: int | None = None,
    part: Callable[[int], tuple[int, int]] | None = None,
) -> Iterator[Batch]:
    """The batches `first` to `stop` of one pass over the split, in `order` (in memory) or as they lie; of each only
    the samples that `part` says (first and last+1, from how many it has), where it is given.

    Inputs that are not in memory are read in the background, a few batches ahead; the threads end with the iterator.
    Nobody else holds a batch: its tensors may be changed, but views of the split (without an `order`) may not.
    Raises DataError for files that cannot be read any more.
    """
    bounds = batch_bounds(len(split), batch)[first:stop]
    if part is not None:
        yield from _parts(split, bounds, order, part)
        return
    yield from _batches(split, bounds, order)


def _parts(
    split: Split,
    bounds: Sequence[tuple[int, int]],
    order: torch.Tensor | None,
    part: Callable[[int], tuple[int, int]],
) -> Iterator[Batch]:
    inside = [part(end - start) for start, end in bounds]
    own = [(start + a, start + b) for (start, _), (a, b) in zip(bounds, inside, strict=True)]
    given = _batches(split, own, order)
    for batch, (start, end), (a, _) in zip(given, bounds, inside, strict=True):
        yield replace(batch, start=a, samples=end - start)


def _batches(split: Split, bounds: Sequence[tuple[int, int]], order: torch.Tensor | None) -> Iterator[Batch]:
    if isinstance(split.inputs, StoredInputs):
        yield from _stored_batches(split, split.inputs, bounds, order)
        return
    if order is None:
        for start, end in bounds:
            yield Batch(split.inputs[start:end], split.targets[start:end], split.ids[start:end])
        return
    there = sent(order, split.inputs.device)  # once a pass
    for start, end in bounds:
        rows = there[start:end]
        # Indexing with [rows] does the same, and takes up to ninety times as long for bytes.
        inputs, targets = (x.index_select(0, rows) for x in (split.inputs, split.targets))
        yield Batch(inputs, targets, split.ids.index_select(0, order[start:end]))


def _stored_batches(
    split: Split, stored: StoredInputs, bounds: Sequence[tuple[int, int]], order: torch.Tensor | None
) -> Iterator[Batch]:
    places = torch.arange(len(split)) if order is None else order
    there = sent(places, split.targets.device)  # which may be in memory where the inputs are sent on
    with closing(read_ahead(stored, bounds, places.numpy())) as read:
        for (start, end), inputs in zip(bounds, copied_ahead(read, stored.device), strict=True):
            targets = inputs.clone() if split.of_inputs else split.targets.index_select(0, there[start:end])
            yield Batch(inputs, targets, split.ids.index_select(0, places[start:end]))


def to_device(split: Split, device: torch.device) -> Split:
    """The split with its inputs and targets on `device`, raw bytes staying bytes. Ids stay in memory: what is drawn
    from them is drawn there.

    Images that would fill an accelerator stay in memory, and are sent batch by batch.
    """
    inputs: Inputs = split.inputs
    if isinstance(inputs, torch.Tensor) and inputs.dtype == torch.uint8 and not fits_on(inputs, device):
        inputs = StoredInputs(HostImages(inputs.numpy()), np.arange(len(inputs)))
    inputs = inputs.to(device)
    return Split(inputs, inputs if split.of_inputs else split.targets.to(device), split.ids)
