"""Reading ahead is bounded, keeps order, and hands on what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data import loader, threads
from striate.data.dataset import Split
from striate.data.loader import HostImages, batches, to_device
from striate.data.normalize import measure_normalization
from striate.data.store.stored import StoredInputs
from striate.errors import DataError


class Counting:
    """Images whose first byte is their row; remembers the rows that were read, and fails at one."""

    def __init__(self, count: int, piece: int | None, fail_at: int = -1) -> None:
        self.shape, self.dtype = (count, 1, 100, 100), np.dtype(np.uint8)
        self.piece, self.threads = piece, 2
        self.fail_at = fail_at
        self.rows = 0

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        if self.fail_at in rows:
            raise DataError("file 7", "gone", "a picture", "put it back")
        out[...] = (rows % 251)[:, None, None, None]
        self.rows += len(rows)

    def sums(self, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class AtOnce:
    """An executor whose threads are infinitely quick: what it is given is done when it has been given."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[[list], list], part: list) -> Future:
        done: Future = Future()
        done.set_result(function(part))
        return done


def split_of(source: Counting) -> Split:
    count = source.shape[0]
    return Split(StoredInputs(source, np.arange(count)), torch.zeros(count), torch.arange(count))


@pytest.mark.parametrize("piece", [None, 3])
@pytest.mark.parametrize(("batch", "most"), [(10, 60), (30, 150), (100, 400)])
def test_the_next_batch_is_read_ahead_and_no_more_than_is_allowed(
    piece: int | None, batch: int, most: int, monkeypatch
) -> None:
    monkeypatch.setattr(loader, "AHEAD_BYTES", 300_000)  # thirty images
    monkeypatch.setattr(threads, "ThreadPoolExecutor", AtOnce)
    source = Counting(2000, piece)
    passing = batches(split_of(source), batch)
    for k in range(1, 4):
        next(passing)
        assert (k + 1) * batch - (piece or 0) <= source.rows <= k * batch + most
    passing.close()


@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 25),
    piece=st.sampled_from([None, 1, 4]),
    budget=st.sampled_from([1, 100_000, 10**9]),
)
@settings(max_examples=40)
def test_every_row_comes_once_and_in_order(count: int, batch: int, piece: int | None, budget: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "AHEAD_BYTES", budget)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
        got = list(batches(split_of(Counting(count, piece)), batch, order=order))
    assert torch.cat([part.ids for part in got]).tolist() == order.tolist()
    assert torch.equal(torch.cat([part.inputs for part in got])[:, 0, 5, 5], (order % 251).to(torch.uint8))


@pytest.mark.parametrize("piece", [None, 2])
def test_a_failure_arrives_at_its_batch_and_threads_end(piece: int | None) -> None:
    before = threading.active_count()
    passing = batches(split_of(Counting(5000, piece, fail_at=4000)), 10)
    got: list[int] = []
    with pytest.raises(DataError, match="gone"):
        got.extend(len(part.ids) for part in passing)
    assert got == [10] * 400
    assert threading.active_count() == before


def test_images_that_stay_in_memory_beside_an_accelerator() -> None:
    x = torch.randint(0, 256, (50, 3, 4, 5), dtype=torch.uint8)
    split = Split(x, torch.arange(50), torch.arange(50))
    assert to_device(split, torch.device("cpu")).inputs is x
    stored = Split(StoredInputs(HostImages(x.numpy()), np.arange(50)), split.targets, split.ids)
    order = torch.arange(49, -1, -1)
    for a, b in zip(batches(split, 8, order=order), batches(stored, 8, order=order), strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
    assert measure_normalization(stored) == measure_normalization(split)


def test_targets_in_memory_go_with_images_that_are_sent_on() -> None:
    """`meta` stands for an accelerator: what comes from there cannot choose among tensors in memory."""
    split = split_of(Counting(6, None))
    there = Split(split.inputs.to("meta"), torch.arange(6), split.ids)
    parts = list(batches(there, 4, order=torch.tensor([5, 4, 3, 2, 1, 0])))
    assert [part.inputs.device.type for part in parts] == ["meta", "meta"]
    assert torch.cat([part.targets for part in parts]).tolist() == [5, 4, 3, 2, 1, 0]
