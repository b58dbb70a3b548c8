"""Pooling against torch and the layers, forward and backward."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from striate import reference
from striate.layers.pooling import ChannelL2Pool, L2Pool

MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@st.composite
def pools(draw):
    axes = draw(st.integers(1, 3))
    size = draw(st.tuples(*[st.integers(1, 3)] * axes))
    stride = draw(st.one_of(st.none(), st.integers(1, 4), st.tuples(*[st.integers(1, 4)] * axes)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in size)
    shape = tuple(draw(st.integers(k, 7 if axes < 3 else 5)) for k in size)
    if draw(st.booleans()):
        size, padding, shape = size[0], padding[0], (max(shape),) * axes
    return (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *shape), (size, stride, padding)


def agree(found, expected):
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.slow
@given(case=pools(), seed=st.integers(0, 99), include=st.booleans())
@settings(max_examples=100)
def test_pools_and_their_gradients_are_those_of_torch(case, seed, include):
    shape, where = case
    rng = np.random.default_rng(seed)
    x = rng.permutation(math.prod(shape)).reshape(shape) / 7 - 3.0  # no ties
    axes = len(shape) - 2
    pairs = [
        (reference.max_pool, reference.max_pool_backward, MAX[axes], {}),
        (reference.average_pool, reference.average_pool_backward, AVERAGE[axes], {"count_include_pad": include}),
        (reference.l2_pool, reference.l2_pool_backward, lambda x, *where: L2Pool(*where)(x), {}),
    ]
    for forward, backward, of_torch, options in pairs:
        x_ = torch.from_numpy(x).requires_grad_()
        y = of_torch(x_, *where, **options)
        agree(forward(x, *where, **options), y)
        g = rng.normal(size=tuple(y.shape))
        y.backward(torch.from_numpy(g))
        agree(backward(g, x, *where, **options), x_.grad)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_tie_goes_to_one_unit_the_first(axes):
    x = np.zeros((1, 1, *(4,) * axes))
    grad = reference.max_pool_backward(1, x, 2)
    assert grad.sum() == 2**axes  # one a window, not one a tied unit
    assert (grad[(..., *(slice(0, None, 2),) * axes)] == 1).all()


def test_overlapping_windows_add_up():
    assert reference.max_pool_backward([[[1, 10]]], [[[0, 5, 0]]], 2, 1).tolist() == [[[0, 11, 0]]]
    assert reference.average_pool_backward([[[1, 10]]], [[[0, 5, 0]]], 2, 1).tolist() == [[[0.5, 5.5, 5]]]


def test_padding_never_wins_the_maximum():
    assert reference.max_pool(np.full((1, 1, 4), -5.0), 2, padding=1).tolist() == [[[-5, -5, -5]]]


def test_the_l2_gradient_of_zeros_is_zero():
    assert not reference.l2_pool_backward(1, np.zeros((1, 1, 4, 4)), 2).any()
    assert not reference.channel_l2_pool_backward(1, np.zeros((1, 4)), 3).any()


@given(size=st.integers(1, 8), channels=st.integers(1, 6), axes=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_channel_l2_pool_and_its_gradient_are_those_of_the_layer(size, channels, axes, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, channels, *(2, 3, 2)[:axes]))
    x_ = torch.from_numpy(x).requires_grad_()
    y = ChannelL2Pool(size)(x_)
    agree(reference.channel_l2_pool(x, size), y)
    g = rng.normal(size=x.shape)
    y.backward(torch.from_numpy(g))
    agree(reference.channel_l2_pool_backward(g, x, size), x_.grad)
