"""Normalizations against torch and the layers, forward and backward."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from striate import reference
from striate.layers.normalization import LocalContrastNorm

shapes = st.integers(0, 3).flatmap(
    lambda axes: st.tuples(st.integers(2, 3), st.integers(1, 6), *[st.integers(1, 4)] * axes)
)


def agree(found, expected):
    expected = expected.detach().numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def leaves(*arrays):
    return [torch.from_numpy(a).requires_grad_() for a in arrays]


def compare(seed, shape, weight_shape, forward, backward, of_torch):
    """forward(x, weight, bias), backward(g, x, weight) and of_torch(x, weight, bias) agree."""
    rng = np.random.default_rng(seed)
    x, weight, bias = 3 * rng.normal(size=shape) + 1, rng.normal(size=weight_shape), rng.normal(size=weight_shape)
    x_, weight_, bias_ = leaves(x, weight, bias)
    y = of_torch(x_, weight_, bias_)
    agree(forward(x, weight, bias), y)
    g = rng.normal(size=shape)
    y.backward(torch.from_numpy(g))
    for found, expected in zip(backward(g, x, weight), (x_.grad, weight_.grad, bias_.grad), strict=True):
        agree(found, expected)


@given(shape=shapes, eps=st.sampled_from([1e-5, 1e-2]), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_batch_norm_in_training_is_that_of_torch(shape, eps, seed):
    compare(
        seed,
        shape,
        shape[1:2],
        lambda x, w, b: reference.batch_norm(x, w, b, eps=eps),
        lambda g, x, w: reference.batch_norm_backward(g, x, w, eps=eps),
        lambda x, w, b: functional.batch_norm(x, None, None, w, b, training=True, eps=eps),
    )


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=25)
def test_batch_norm_after_training_is_that_of_torch(shape, seed):
    rng = np.random.default_rng(seed)
    given_ = {"mean": rng.normal(size=shape[1]), "variance": rng.uniform(0.1, 2, shape[1])}
    mean, variance = map(torch.from_numpy, given_.values())
    compare(
        seed,
        shape,
        shape[1:2],
        lambda x, w, b: reference.batch_norm(x, w, b, **given_),
        lambda g, x, w: reference.batch_norm_backward(g, x, w, **given_),
        lambda x, w, b: functional.batch_norm(x, mean, variance, w, b),
    )


@given(shape=shapes, last=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_layer_norm_is_that_of_torch(shape, last, seed):
    normalized = shape[-last:] if 0 < last < len(shape) else None
    over = normalized or shape[1:]
    compare(
        seed,
        shape,
        over,
        lambda x, w, b: reference.layer_norm(x, w, b, normalized_shape=normalized),
        lambda g, x, w: reference.layer_norm_backward(g, x, w, normalized_shape=normalized),
        lambda x, w, b: functional.layer_norm(x, over, w, b),
    )


@given(shape=shapes, groups=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_group_norm_is_that_of_torch(shape, groups, seed):
    shape = (shape[0], shape[1] * groups, *shape[2:])
    compare(
        seed,
        shape,
        shape[1:2],
        lambda x, w, b: reference.group_norm(x, groups, w, b),
        lambda g, x, w: reference.group_norm_backward(g, x, groups, w),
        lambda x, w, b: functional.group_norm(x, groups, w, b),
    )


def test_without_weight_and_bias_the_result_has_mean_0_and_deviation_1():
    x = np.random.default_rng(0).normal(5, 3, (8, 4, 6, 6))
    y = reference.batch_norm(x)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(reference.layer_norm(x), reference.group_norm(x, 1), rtol=1e-12)


@given(
    shape=shapes.filter(lambda shape: len(shape) > 2),  # what torch takes
    size=st.integers(1, 7),
    alpha=st.floats(0, 2),
    beta=st.floats(0.1, 2),
    k=st.floats(0.1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_local_response_norm_is_that_of_torch(shape, size, alpha, beta, k, seed):
    rng = np.random.default_rng(seed)
    x = 2 * rng.normal(size=shape)
    (x_,) = leaves(x)
    y = functional.local_response_norm(x_, size, alpha, beta, k)
    agree(reference.local_response_norm(x, size, alpha, beta, k), y)
    g = rng.normal(size=shape)
    y.backward(torch.from_numpy(g))
    agree(reference.local_response_norm_backward(g, x, size, alpha, beta, k), x_.grad)


def test_local_response_norm_as_the_paper_has_it():
    x = np.arange(1.0, 8.0).reshape(1, 7)
    y = reference.local_response_norm(x, 5, alpha=5 * 1e-4, beta=0.75, k=2)
    squares = 2**2 + 3**2 + 4**2 + 5**2 + 6**2
    assert y[0, 3] == pytest.approx(4 / (2 + 1e-4 * squares) ** 0.75)


@given(
    # With one value in a window the mean is the value: rounding errors are left, which have no meaning.
    shape=shapes.filter(lambda shape: len(shape) > 2 and max(shape[2:]) > 1),
    size=st.sampled_from([3, 5, 9]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_local_contrast_norm_is_that_of_the_layer(shape, size, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 2 + 5
    (x_,) = leaves(x)
    y = LocalContrastNorm(size)(x_)
    agree(reference.local_contrast_norm(x, size), y)
    g = rng.normal(size=shape)
    y.backward(torch.from_numpy(g))
    agree(reference.local_contrast_norm_backward(g, x, size), x_.grad)


def test_local_contrast_norm_takes_brightness_and_contrast_away():
    x = np.random.default_rng(0).normal(size=(1, 2, 8, 8))
    y = reference.local_contrast_norm(x)
    np.testing.assert_allclose(reference.local_contrast_norm(7 * x + 3), y, rtol=1e-9)
    assert not reference.local_contrast_norm(np.full((1, 1, 5, 5), 0.3)).round(7).any()


def test_local_contrast_norm_of_a_window_by_hand():
    # Size 3: weights 1 and e^(−½/(3/4)²) on both sides, one axis, one channel.
    side = np.exp(-0.5 / 0.75**2)
    x = np.array([1.0, 2.0, 6.0])
    w = np.array([[1, side, 0], [side, 1, side], [0, side, 1]])
    w /= w.sum(axis=1, keepdims=True)
    v = x - w @ x
    sigma = np.sqrt(w @ v**2)
    expected = v / np.maximum(sigma.mean(), sigma)
    np.testing.assert_allclose(reference.local_contrast_norm(x[None, None], 3)[0, 0], expected, rtol=1e-12)
