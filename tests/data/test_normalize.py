"""Standardized batches have the same numbers in every layout, wherever they are computed, rounded once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data import normalize as normalize_module
from striate.data.memory_layout import channels_last
from striate.data.normalize import Normalization


def made(channels: int, ndim: int):
    mean = tuple(100.0 + 7 * k for k in range(channels))
    return Normalization(mean, tuple(60.0 + k for k in range(channels))).on("cpu", ndim)


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    last=st.booleans(),
    floats=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_numbers_are_those_of_the_formula(shape, last: bool, floats: bool, seed: int) -> None:
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    x = x.float() if floats else x
    before, normalize = x.clone(), made(shape[1], 4)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    expected = (x.double() - normalize.mean.double()) * normalize.scale.double()
    got = normalize(x)
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(x, before)
    assert torch.equal(got, normalize._in_threads(x))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("limit", [0, 2**18])
def test_batches_come_out_contiguous(channels: int, limit: int, monkeypatch) -> None:
    monkeypatch.setattr(normalize_module, "_SMALL", limit)
    x = torch.randint(0, 256, (4, channels, 6, 5), dtype=torch.uint8)
    for laid_out in (x, channels_last(x)):
        got = made(channels, 4)(laid_out)
        assert got.stride() == (30 * channels, 30, 5, 1)
        assert torch.equal(got, made(channels, 4)(x))


def test_volumes_and_tables_are_standardized_too() -> None:
    volume = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    assert made(3, 5)(volume).is_contiguous()
    table = torch.tensor([[100.0, 107.0], [160.0, 168.0]])
    assert torch.allclose(made(2, 2)(table), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
