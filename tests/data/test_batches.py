"""Order, batches and normalization are pure functions of seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.counter_random import hash_key, uniforms
from striate.data.dataset import Split
from striate.data.loader import batch_bounds, batches, epoch_order
from striate.data.normalize import measure_normalization


def split_of(inputs: torch.Tensor) -> Split:
    n = len(inputs)
    return Split(inputs, torch.zeros(n, dtype=torch.int64), torch.arange(n) * 7 + 3)


@given(samples=st.integers(1, 500), batch=st.integers(1, 130))
def test_an_epoch_visits_every_sample_once_and_leaves_none_alone(samples: int, batch: int) -> None:
    bounds = batch_bounds(samples, batch)
    assert [start for start, _ in bounds[1:]] == [stop for _, stop in bounds[:-1]]
    assert (bounds[0][0], bounds[-1][1]) == (0, samples)
    sizes = [stop - start for start, stop in bounds]
    assert all(size == batch for size in sizes[:-1])
    if samples > 1 and batch > 1:
        assert min(sizes) > 1


def test_the_order_depends_on_seed_and_epoch_and_nothing_else() -> None:
    torch.manual_seed(1)
    first = epoch_order(100, 5, 2)
    torch.manual_seed(2)
    assert torch.equal(first, epoch_order(100, 5, 2))
    assert not torch.equal(first, epoch_order(100, 5, 3))
    assert not torch.equal(first, epoch_order(100, 6, 2))
    assert sorted(first.tolist()) == list(range(100))


def test_batches_from_the_middle_are_those_of_the_whole_epoch() -> None:
    split = split_of(torch.arange(50).view(50, 1).float())
    order = epoch_order(50, 0, 0)
    whole = [b.ids.tolist() for b in batches(split, 8, order=order)]
    assert [b.ids.tolist() for b in batches(split, 8, order=order, first=3)] == whole[3:]
    assert [b.ids.tolist() for b in batches(split, 8, order=order, first=1, stop=2)] == whole[1:2]


def test_normalization_of_bytes_is_exact() -> None:
    x = torch.randint(0, 256, (40, 3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    norm = measure_normalization(split_of(x))
    expected = x.double().permute(1, 0, 2, 3).reshape(3, -1)
    assert norm.mean == pytest.approx(expected.mean(1).tolist(), abs=1e-9)
    assert norm.std == pytest.approx(expected.std(1, correction=0).tolist(), abs=1e-9)
    out = norm.on("cpu", 4)(x)
    assert out.dtype == torch.float32
    assert float(out.mean()) == pytest.approx(0, abs=1e-5)


def test_a_constant_feature_is_only_centered() -> None:
    x = torch.stack([torch.full((10,), 4.0), torch.arange(10.0)], dim=1)
    out = measure_normalization(split_of(x)).on("cpu", 2)(x)
    assert torch.equal(out[:, 0], torch.zeros(10))
    assert out[:, 1].std(correction=0) == pytest.approx(1.0)


def test_uniform_numbers_are_uniform_and_independent() -> None:
    u = uniforms(hash_key(1, 2), np.arange(20000), 3)
    assert u.min() >= 0
    assert u.max() < 1
    assert np.abs(u.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 0.03
    assert hash_key(1, 2) != hash_key(2, 1)
