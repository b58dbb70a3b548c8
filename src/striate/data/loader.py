"""Batches of raw inputs, in an order that depends only on (seed, epoch).

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
"""Batches are read ahead up to about so many bytes, and at least the next one."""
_WINDOW_BATCHES = 8


@dataclass(frozen=True)
class _Piece:
    """Rows that one call reads."""

    rows: NDArray[np.int64]
    out: NDArray[Any]
    """Where they are read to: a part of `window`."""
    window: NDArray[Any]
    """The inputs of one or more batches."""
    ends: tuple[tuple[int, int], ...]
    """Bounds of the batches in `window`, if this is its last piece; else empty."""


def read_ahead(
    inputs: StoredInputs, bounds: Sequence[tuple[int, int]], order: NDArray[np.int64]
) -> Generator[torch.Tensor, None, None]:
    """The inputs of each batch k, rows `bounds[k][0]` to `bounds[k][1]` of `order`, in memory.

    A source with one thread is read in windows of several batches, since reading sorted rows is faster. A source with
    several threads is read in small pieces by all of them. The threads end with the iterator.
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
        """The type of the images."""
        return self.images.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.images.shape

    @property
    def piece(self) -> None:
        """None: one thread copies, since memory limits the speed."""
        return

    @property
    def threads(self) -> int:
        """1."""
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
    """A batch of samples, or a part of one."""

    inputs: torch.Tensor
    """Raw inputs, (B, C, *spatial) or (B, F)."""
    targets: Targets
    """(B, …), as in `Split`."""
    ids: torch.Tensor
    """(B,) int64 sample ids, in memory."""
    start: int = 0
    """The place of the first of these samples in the batch."""
    samples: int | None = None
    """The number of samples of the batch; None where these are all."""

    @property
    def full_size(self) -> int:
        """The number of samples of the batch, in all its parts."""
        return len(self.ids) if self.samples is None else self.samples


def epoch_order(samples: int, seed: int, epoch: int) -> torch.Tensor:
    """(samples,) int64: the order in which an epoch visits the samples, each once."""
    generator = torch.Generator().manual_seed(hash_key(seed, epoch, 0))
    return torch.randperm(samples, generator=generator)


def order_by_class(labels: torch.Tensor, each: int, seed: int, epoch: int) -> torch.Tensor:
    """(N,) int64: an order of runs of `each` samples of one class, so that a batch of P × `each` has about P classes.

    The runs of a class are distributed evenly over the epoch, in proportion to its number of samples. Where that is not
    a multiple of `each`, its last run repeats samples."""
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
    """The batches `first` to `stop` of one pass over the split.

    `order`: (N,) positions, in memory; None: the order of the split. `part`: from the number of samples of a batch, the
    first and last + 1 of those to give; None: all.
    Inputs that are not in memory are read in the background, a few batches ahead; the threads end with the iterator.
    With an `order`, the caller may change the tensors of a batch; without, they are views of the split.
    Raises DataError for files that can no longer be read.
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
    there = sent(order, split.inputs.device)  # once per pass
    for start, end in bounds:
        rows = there[start:end]
        # Indexing with [rows] does the same, and takes up to ninety times as long for bytes.
        inputs, targets = (x.index_select(0, rows) for x in (split.inputs, split.targets))
        yield Batch(inputs, targets, split.ids.index_select(0, order[start:end]))


def _stored_batches(
    split: Split, stored: StoredInputs, bounds: Sequence[tuple[int, int]], order: torch.Tensor | None
) -> Iterator[Batch]:
    places = torch.arange(len(split)) if order is None else order
    there = sent(places, split.targets.device)  # in memory where only the inputs are sent to a device
    with closing(read_ahead(stored, bounds, places.numpy())) as read:
        for (start, end), inputs in zip(bounds, copied_ahead(read, stored.device), strict=True):
            targets = inputs.clone() if split.of_inputs else split.targets.index_select(0, there[start:end])
            yield Batch(inputs, targets, split.ids.index_select(0, places[start:end]))


def to_device(split: Split, device: torch.device) -> Split:
    """The split with its inputs and targets on `device`; bytes stay bytes. Ids stay in memory, where random numbers are
    drawn from them.

    Images that do not fit on an accelerator stay in memory, and are sent batch by batch.
    """
    inputs: Inputs = split.inputs
    if isinstance(inputs, torch.Tensor) and inputs.dtype == torch.uint8 and not fits_on(inputs, device):
        inputs = StoredInputs(HostImages(inputs.numpy()), np.arange(len(inputs)))
    inputs = inputs.to(device)
    return Split(inputs, inputs if split.of_inputs else split.targets.to(device), split.ids)
