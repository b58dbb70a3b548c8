"""Convolutions, transposed convolutions, locally connected and dense layers against torch, forward and backward."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from striate import reference
from striate.layers.convolution import LocallyConnected

CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
MODULE = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
close = pytest.approx


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def agree(found, expected):
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    assert found.shape == expected.shape
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def leaves(*arrays):
    return [torch.from_numpy(np.ascontiguousarray(a)).requires_grad_() for a in arrays]


@st.composite
def per_axis(draw, axes, low, high):
    """A size as one number or one an axis."""
    numbers = st.integers(low, high)
    return draw(st.one_of(numbers, st.tuples(*[numbers] * axes)))


def spread(size, axes):
    return (size,) * axes if isinstance(size, int) else size


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 3))
    most = {1: 9, 2: 7, 3: 5}[axes]
    groups = draw(st.integers(1, 3))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * axes))
    dilation = draw(per_axis(axes, 1, 2))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), per_axis(axes, 0, 2)))
    size, pads = [], spread(0 if isinstance(padding, str) else padding, axes)
    for k, d, p in zip(kernel, spread(dilation, axes), pads, strict=True):
        span = d * (k - 1) + 1
        # "same" pads by up to half a span, and reflection needs more positions than padding.
        low = max(span // 2 + 1 if padding == "same" else 1, span if padding == "valid" else span - 2 * p, p + 1)
        size.append(draw(st.integers(low, max(low, most))))
    stride = 1 if padding == "same" else draw(per_axis(axes, 1, 3))
    channels = groups * draw(st.integers(1, 2))
    shapes = (draw(st.integers(1, 2)), channels, *size), (groups * draw(st.integers(1, 2)), channels // groups, *kernel)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": mode}
    return shapes, options


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # torch tells of a copy it makes
@given(case=convolutions(), seed=st.integers(0, 99))
@settings(max_examples=150)
def test_convolve_and_its_gradients_are_those_of_torch(case, seed):
    (x_shape, w_shape), options = case
    x, w, b = normal(seed, *x_shape), normal(seed + 1, *w_shape), normal(seed + 2, w_shape[0])
    layer = MODULE[len(x_shape) - 2](x_shape[1], w_shape[0], w_shape[2:], **options, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        layer.bias.copy_(torch.from_numpy(b))
    (x_,) = leaves(x)
    y = layer(x_)
    agree(reference.convolve(x, w, b, **options), y)
    g = normal(seed + 3, *y.shape)
    y.backward(torch.from_numpy(g))
    for found, expected in zip(
        reference.convolve_backward(g, x, w, **options), (x_.grad, layer.weight.grad, layer.bias.grad), strict=True
    ):
        agree(found, expected)


@given(case=convolutions(), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_flip_turns_the_kernel_around_forward_and_backward(case, seed):
    (x_shape, w_shape), options = case
    x, w = normal(seed, *x_shape), normal(seed + 1, *w_shape)
    axes = tuple(range(2, w.ndim))
    turned = np.flip(w, axes)
    y = reference.convolve(x, w, flip=True, **options)
    agree(y, reference.convolve(x, turned, **options))
    g = normal(seed + 2, *y.shape)
    grad_x, grad_w, _ = reference.convolve_backward(g, x, w, flip=True, **options)
    other_x, other_w, _ = reference.convolve_backward(g, x, turned, **options)
    agree(grad_x, other_x)
    agree(grad_w, np.flip(other_w, axes))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_flip_gives_the_convolution_of_the_formulas(axes):
    from scipy.signal import convolve

    x, w = normal(0, *(6,) * axes), normal(1, *(3, 2, 4)[:axes])
    found = reference.convolve(x[None, None], w[None, None], flip=True)
    agree(found[0, 0], convolve(x, w, mode="valid", method="direct"))
    assert not np.allclose(found, reference.convolve(x[None, None], w[None, None]))


@given(case=convolutions(), seed=st.integers(0, 99), a=st.floats(-3, 3), c=st.floats(-3, 3))
@settings(max_examples=25)
def test_convolve_is_linear_in_input_and_kernel(case, seed, a, c):
    (x_shape, w_shape), options = case
    x, x2, w, w2 = normal(seed, *x_shape), normal(7, *x_shape), normal(seed + 1, *w_shape), normal(8, *w_shape)
    f = reference.convolve
    agree(f(a * x + c * x2, w, **options), a * f(x, w, **options) + c * f(x2, w, **options))
    agree(f(x, a * w + c * w2, **options), a * f(x, w, **options) + c * f(x, w2, **options))


@given(shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)), kernel=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_convolve_is_equivariant_to_translation(shift, kernel, seed):
    x, w = normal(seed, 1, 2, 5, 6), normal(seed + 1, 3, 2, kernel, kernel)

    def f(values):
        return reference.convolve(values, w, padding="same", padding_mode="circular")

    agree(f(np.roll(x, shift, axis=(2, 3))), np.roll(f(x), shift, axis=(2, 3)))


def test_pooling_is_only_approximately_invariant_to_translation():
    x = np.random.default_rng(0).random((1, 1, 64, 64))
    moved = np.roll(x, 1, axis=3)
    pooled, pooled_moved = reference.max_pool(x, 4), reference.max_pool(moved, 4)
    assert not np.array_equal(pooled, pooled_moved)
    # Most windows keep their largest value; of the pixels themselves nearly none is where it was.
    assert np.mean(pooled == pooled_moved) > 0.5
    assert np.mean(x == moved) < 0.05
    assert np.abs(pooled - pooled_moved).mean() < np.abs(x - moved).mean() / 3


@st.composite
def transposed(draw):
    axes = draw(st.integers(1, 3))
    stride, dilation = draw(per_axis(axes, 1, 3)), draw(per_axis(axes, 1, 2))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * axes))
    steps, gaps = spread(stride, axes), spread(dilation, axes)
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(steps, gaps, strict=True))
    size = draw(st.tuples(*[st.integers(1, 4 if axes < 3 else 3)] * axes))
    full = [(n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in zip(size, steps, gaps, kernel, extra, strict=True)]
    padding = tuple(draw(st.integers(0, min(2, (n - 1) // 2))) for n in full)
    groups = draw(st.integers(1, 2))
    channels = groups * draw(st.integers(1, 2))
    shapes = (draw(st.integers(1, 2)), channels, *size), (channels, draw(st.integers(1, 2)), *kernel)
    options = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation, "groups": groups}
    return shapes, options


@given(case=transposed(), seed=st.integers(0, 99))
@settings(max_examples=100)
def test_transposed_convolve_and_its_gradients_are_those_of_torch(case, seed):
    (x_shape, w_shape), options = case
    x, w, b = normal(seed, *x_shape), normal(seed + 1, *w_shape), normal(seed + 2, w_shape[1] * options["groups"])
    x_, w_, b_ = leaves(x, w, b)
    y = TRANSPOSED[x.ndim - 2](x_, w_, b_, **options)
    agree(reference.transposed_convolve(x, w, b, **options), y)
    g = normal(seed + 3, *y.shape)
    y.backward(torch.from_numpy(g))
    found = reference.transposed_convolve_backward(g, x, w, **options)
    for mine, expected in zip(found, (x_.grad, w_.grad, b_.grad), strict=True):
        agree(mine, expected)


@given(case=transposed(), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_transposed_convolve_is_the_adjoint_of_convolve(case, seed):
    (x_shape, w_shape), options = case
    x, w = normal(seed, *x_shape), normal(seed + 1, *w_shape)
    stamped = reference.transposed_convolve(x, w, **options)
    y = normal(seed + 2, *stamped.shape)
    plain = {key: value for key, value in options.items() if key != "output_padding"}
    seen = reference.convolve(y, w, **plain)
    # Rows that the output padding adds beyond a further stride would give the convolution more outputs.
    seen = seen[(..., *(slice(n) for n in x_shape[2:]))]
    assert np.vdot(seen, x) == close(np.vdot(y, stamped), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 1, 0), (3, 2, 1), (2, 1, "same"), (3, 1, "valid")])
def test_locally_connected_is_the_layer_and_its_gradients(axes, kernel, stride, padding):
    size = (6, 5, 4)[:axes]
    layer = LocallyConnected(2, 3, size, kernel, stride, 0 if padding == "valid" else padding).double()
    x = normal(0, 2, 2, *size)
    (x_,) = leaves(x)
    y = layer(x_)
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    agree(reference.locally_connected(x, w, b, stride=stride, padding=padding), y)
    g = normal(1, *y.shape)
    y.backward(torch.from_numpy(g))
    found = reference.locally_connected_backward(g, x, w, stride=stride, padding=padding)
    for mine, expected in zip(found, (x_.grad, layer.weight.grad, layer.bias.grad), strict=True):
        agree(mine, expected)


def test_locally_connected_with_the_same_kernel_everywhere_is_a_convolution():
    x, w = normal(0, 2, 3, 6, 5), normal(1, 4, 3, 3, 2)
    everywhere = np.broadcast_to(w, (2, 4, *w.shape))
    agree(reference.locally_connected(x, everywhere, stride=(2, 1)), reference.convolve(x, w, stride=(2, 1)))


@given(st.integers(1, 3), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=30)
def test_dense_and_its_gradients_are_those_of_torch_and_of_a_1x1_convolution(samples, shape, units, seed):
    x, w, b = normal(seed, samples, *shape), normal(seed + 1, units, int(np.prod(shape))), normal(seed + 2, units)
    x_, w_, b_ = leaves(x, w, b)
    y = functional.linear(x_.flatten(1), w_, b_)
    agree(reference.dense(x, w, b), y)
    agree(reference.dense_as_convolution(x, w, b), y)
    g = normal(seed + 3, *y.shape)
    y.backward(torch.from_numpy(g))
    for mine, expected in zip(reference.dense_backward(g, x, w), (x_.grad, w_.grad, b_.grad), strict=True):
        agree(mine, expected)


@given(case=convolutions().filter(lambda case: case[1]["padding_mode"] == "zeros"), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_im2col_makes_a_convolution_one_matrix_product_and_col2im_is_its_adjoint(case, seed):
    (x_shape, w_shape), options = case
    options = {key: value for key, value in options.items() if key not in ("groups", "padding_mode")}
    x, w = normal(seed, *x_shape), normal(seed + 1, w_shape[0], x_shape[1], *w_shape[2:])
    columns = reference.im2col(x, w_shape[2:], **options)
    agree(
        (w.reshape(len(w), -1) @ columns).reshape(len(x), -1), reference.convolve(x, w, **options).reshape(len(x), -1)
    )
    y = normal(seed + 2, *columns.shape)
    back = reference.col2im(y, x_shape[2:], w_shape[2:], **options)
    assert back.shape == x.shape
    assert np.vdot(columns, y) == close(np.vdot(x, back), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(3, 1, 0, 1), ((2, 3), (2, 1), (1, 0), (1, 2))])
def test_im2col_and_col2im_have_the_layout_of_torch(kernel, stride, padding, dilation):
    x = normal(0, 2, 3, 6, 7)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    columns = functional.unfold(torch.from_numpy(x), kernel, **options)
    agree(reference.im2col(x, kernel, **options), columns)
    folded = functional.fold(columns, (6, 7), kernel, **options)
    agree(reference.col2im(columns.numpy(), (6, 7), kernel, **options), folded)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, np.bool_, list])
def test_everything_is_computed_in_float64(kind):
    values = [[[[200, 100], [50, 255]]]]
    x = values if kind is list else np.array(values, dtype=kind)
    w = [[[[1, 1], [1, 1]]]] if kind is list else np.ones((1, 1, 2, 2), dtype=kind)
    agree(reference.convolve(x, w), np.array([[[[4.0 if kind is np.bool_ else 605.0]]]]))


def test_a_number_as_grad_out_stands_for_it_everywhere():
    x, w = normal(0, 2, 2, 5, 5), normal(1, 3, 2, 3, 3)
    for found, expected in zip(
        reference.convolve_backward(2, x, w),
        reference.convolve_backward(np.full((2, 3, 3, 3), 2.0), x, w),
        strict=True,
    ):
        agree(found, expected)
