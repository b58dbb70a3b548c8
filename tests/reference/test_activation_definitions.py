"""Activations, losses and dropout against torch, forward and backward."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch.nn import functional

from striate import StriateError, reference
from striate.layers.activations import Maxout

shapes = hnp.array_shapes(min_dims=2, max_dims=5, max_side=4)
# Corners, saturation and beyond: e^±800 would overflow.
values = st.one_of(st.floats(-5, 5), st.sampled_from([0.0, -0.0, 1e-300, 40.0, -40.0, 800.0, -800.0]))
inputs = shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=values))

PLAIN = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": functional.relu,
    "swish": functional.silu,
}


def agree(found, expected):
    expected = expected.detach().numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def compare(x, forward, backward, of_torch, seed=0):
    x_ = torch.from_numpy(x).requires_grad_()
    y = of_torch(x_)
    agree(forward(x), y)
    g = np.random.default_rng(seed).normal(size=tuple(y.shape))
    y.backward(torch.from_numpy(g))
    agree(backward(g, x), x_.grad)


@pytest.mark.parametrize("name", PLAIN)
@given(x=inputs)
@settings(max_examples=40)
def test_activations_are_those_of_torch(name, x):
    compare(x, getattr(reference, name), getattr(reference, f"{name}_backward"), PLAIN[name])


@given(x=inputs, number=st.floats(-2, 2))
@settings(max_examples=40)
def test_leaky_relu_and_elu_are_those_of_torch(x, number):
    compare(
        x,
        lambda x: reference.leaky_relu(x, slope=number),
        lambda g, x: reference.leaky_relu_backward(g, x, slope=number),
        lambda x: functional.leaky_relu(x, number),
    )
    alpha = abs(number) + 0.1  # torch refuses others in place only, but names the derivative at 0 for these
    compare(
        x,
        lambda x: reference.elu(x, alpha=alpha),
        lambda g, x: reference.elu_backward(g, x, alpha=alpha),
        lambda x: functional.elu(x, alpha),
    )


def test_the_defaults_are_those_of_the_lectures():
    assert reference.leaky_relu(-10) == -1  # max(0.1x, x)
    assert reference.elu(-1) == pytest.approx(math.exp(-1) - 1)


@given(x=inputs, each=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_prelu_is_that_of_torch_with_one_slope_or_one_a_channel(x, each, seed):
    rng = np.random.default_rng(seed)
    slope = rng.normal(size=x.shape[1] if each else 1)
    x_, slope_ = torch.from_numpy(x).requires_grad_(), torch.from_numpy(slope).requires_grad_()
    y = functional.prelu(x_, slope_)
    agree(reference.prelu(x, slope), y)
    np.testing.assert_array_equal(reference.leaky_relu(x, slope), reference.prelu(x, slope))
    g = rng.normal(size=x.shape)
    y.backward(torch.from_numpy(g))
    grad_x, grad_slope = reference.prelu_backward(g, x, slope)
    agree(grad_x, x_.grad)
    agree(grad_slope, slope_.grad)


def test_the_gradient_by_a_scalar_slope_is_a_scalar():
    grad_x, grad_slope = reference.prelu_backward(1, [[-2.0, 3.0]], 0.25)
    assert grad_x.tolist() == [[0.25, 1]]
    assert grad_slope.shape == ()
    assert grad_slope == -2


@given(units=st.integers(1, 3), pieces=st.integers(1, 4), axes=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_maxout_is_that_of_the_layer(units, pieces, axes, seed):
    shape = (2, units * pieces, *(2, 3, 2)[:axes])
    x = np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape).astype(float)
    compare(
        x, lambda x: reference.maxout(x, pieces), lambda g, x: reference.maxout_backward(g, x, pieces), Maxout(pieces)
    )


def test_maxout_is_the_larger_of_two_affine_functions():
    x, w, b = np.array([[3.0, -1.0]]), np.array([[1.0, 2.0], [-1.0, 1.0]]), np.array([0.5, 10.0])
    assert reference.maxout(reference.dense(x, w, b), 2).tolist() == [[max(3 - 2 + 0.5, -3 - 1 + 10.0)]]
    assert reference.maxout_backward(1, [[2.0, 2.0]], 2).sum() == 1  # a tie goes to one


@given(x=inputs, axis=st.sampled_from([None, 0, 1, -1]))
@settings(max_examples=40)
def test_softmax_is_that_of_torch(x, axis):
    compare(
        x,
        lambda x: reference.softmax(x, axis),
        lambda g, x: reference.softmax_backward(g, x, axis),
        lambda x: torch.softmax(x, 1 if axis is None else axis),
    )


def test_softmax_of_a_lone_vector():
    assert reference.softmax([1, 1, 1, 1]).tolist() == [0.25] * 4
    assert reference.softmax([1000, -1000]).tolist() == [1, 0]


@given(samples=st.integers(1, 4), classes=st.integers(2, 5), axes=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_losses_are_those_of_torch(samples, classes, axes, seed):
    rng = np.random.default_rng(seed)
    space = (2, 3)[:axes]
    logits = rng.normal(size=(samples, classes, *space)) * 5
    labels = rng.integers(0, classes, (samples, *space))
    z, t = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)
    loss = functional.cross_entropy(z, t)
    loss.backward()
    assert reference.cross_entropy(logits, labels) == pytest.approx(loss.item(), rel=1e-12)
    agree(reference.cross_entropy_backward(logits, labels), z.grad)
    margin, z.grad = float(rng.uniform(0.1, 3)), None
    rows = z.movedim(1, -1).reshape(-1, classes)
    # torch divides the sum over the wrong classes by the number of classes.
    loss = functional.multi_margin_loss(rows, t.reshape(-1), margin=margin) * classes
    loss.backward()
    assert reference.hinge(logits, labels, margin=margin) == pytest.approx(loss.item(), rel=1e-12, abs=1e-12)
    agree(reference.hinge_backward(logits, labels, margin=margin), z.grad)


def test_losses_of_known_numbers():
    # Cat 3.2, car 5.1, frog −1.7; right: cat. Hinge: max(0, 5.1 − 3.2 + 1) + max(0, −1.7 − 3.2 + 1) = 2.9.
    assert reference.hinge([3.2, 5.1, -1.7], 0) == pytest.approx(2.9)
    assert reference.hinge([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0]], [0, 1]) == pytest.approx(2.9 / 2)
    assert reference.cross_entropy([3.2, 5.1, -1.7], 0) == pytest.approx(2.04, abs=5e-3)
    assert reference.cross_entropy(np.zeros((5, 10)), [0, 1, 2, 3, 4]) == pytest.approx(math.log(10))
    assert reference.cross_entropy([[1000.0, 0.0]], [1]) == pytest.approx(1000)


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
def test_dropout_scales_what_stays_and_is_as_torch_with_the_same_mask(p):
    x = np.random.default_rng(0).normal(size=(40, 50)) + 3
    mask = reference.dropout_mask(x.shape, p, np.random.default_rng(1))
    assert mask.mean() == pytest.approx(1 - p, abs=0.04)
    y = reference.dropout(x, p, mask=mask)
    np.testing.assert_array_equal(y, reference.dropout(x, p, generator=np.random.default_rng(1)))
    x_ = torch.from_numpy(x).requires_grad_()
    torch.manual_seed(0)
    of_torch = nn.Dropout(p)(x_)
    of_torch.sum().backward()
    kept = of_torch.detach().numpy() != 0
    agree(reference.dropout(x, p, mask=kept), of_torch)
    agree(reference.dropout_backward(1, kept, p), x_.grad)
    if p < 0.5:
        assert y.mean() == pytest.approx(x.mean(), rel=0.05)


def test_dropout_without_mask_and_generator_is_refused():
    for given_ in ({}, {"mask": np.ones(3), "generator": np.random.default_rng(0)}):
        with pytest.raises(StriateError, match="one of them"):
            reference.dropout(np.ones(3), 0.5, **given_)
    with pytest.raises(StriateError) as caught:
        reference.dropout(np.ones(3), 1.5)
    assert caught.value.where == "p"
