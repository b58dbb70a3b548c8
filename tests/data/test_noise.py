"""Noise has the strength that was asked for, and is a pure function of seed, epoch and sample id."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from striate.data.augment.pixels import with_noise
from striate.data.config import AugmentConfig
from striate.data.counter_normal import normals
from striate.data.counter_random import uniforms

IDS = torch.arange(400) * 13 + 2


def added(noise: float, shape: tuple[int, ...], ids: torch.Tensor = IDS, epoch: int = 0, seed: int = 0) -> torch.Tensor:
    inputs = torch.zeros(len(ids), *shape)
    return with_noise(inputs, AugmentConfig(noise=noise), seed, epoch, ids)


def test_numbers_are_standard_normal_and_independent() -> None:
    drawn = normals(5, torch.arange(300), 401).double()
    assert drawn.shape == (300, 401)
    assert kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    assert float(drawn.abs().max()) < 6.8
    assert np.abs(np.corrcoef(drawn.numpy()) - np.eye(300)).max() < 0.3
    # Both numbers of a pair, and neighbors.
    assert abs(np.corrcoef(drawn[:, :200].flatten(), drawn[:, 201:401].flatten())[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn[:, :200].abs().flatten(), drawn[:, 201:401].abs().flatten())[0, 1]) < 0.02


def test_the_bits_are_those_of_the_uniform_numbers() -> None:
    key, ids = 2**62 + 12345, np.array([0, 3, 2**40])
    u = torch.from_numpy(uniforms(key, ids, 5))
    first = normals(key, torch.from_numpy(ids), 10)[:, :5].double()
    second = normals(key, torch.from_numpy(ids), 10)[:, 5:].double()
    radius = (first**2 + second**2).sqrt()
    assert torch.allclose(radius, (-2 * u.log()).sqrt(), atol=1e-3)


@pytest.mark.parametrize("shape", [(13,), (3, 16, 16), (2, 50)])
def test_the_strength_is_uniform_up_to_what_was_asked(shape: tuple[int, ...]) -> None:
    drawn = added(0.4, shape).double()
    overall = float(drawn.std())
    assert overall == pytest.approx(0.4 / 3**0.5, rel=0.08)  # root of the mean of s², s uniform in [0, 0.4]
    if len(shape) == 3:
        each = drawn.flatten(1).std(1)
        assert kstest(each.numpy() / 0.4, "uniform").pvalue > 1e-3
        assert float(each.max()) < 0.42


def test_noise_depends_on_seed_epoch_and_id_and_not_on_the_batch_or_the_layout() -> None:
    whole = added(0.5, (3, 8, 8))
    assert torch.equal(whole[100:103], added(0.5, (3, 8, 8), IDS[100:103]))
    assert torch.equal(whole.flip(0), added(0.5, (3, 8, 8), IDS.flip(0)))
    assert not torch.equal(whole, added(0.5, (3, 8, 8), epoch=1))
    assert not torch.equal(whole, added(0.5, (3, 8, 8), seed=1))
    last = torch.zeros(400, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    got = with_noise(last, AugmentConfig(noise=0.5), 0, 0, IDS)
    assert torch.equal(got, whole)
    assert got.stride() == last.stride()


def test_the_strides_that_normalization_chose_are_kept() -> None:
    inputs = torch.zeros(4, 1, 6, 5).as_strided((4, 1, 6, 5), (30, 1, 5, 1))
    assert with_noise(inputs, AugmentConfig(noise=0.5), 0, 0, IDS[:4]).stride() == (30, 1, 5, 1)


@pytest.mark.parametrize("noise", [0.0, None])
def test_no_noise_is_the_same_object(noise: float | None) -> None:
    inputs = torch.ones(3, 2)
    assert with_noise(inputs, AugmentConfig(noise=noise), 0, 0, IDS[:3]) is inputs


def test_inputs_are_left_alone() -> None:
    inputs = torch.ones(3, 2)
    changed = with_noise(inputs, AugmentConfig(noise=1.0), 0, 0, IDS[:3])
    assert bool(inputs.eq(1).all())
    assert not torch.equal(changed, inputs)
