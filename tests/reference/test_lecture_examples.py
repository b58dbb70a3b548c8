"""The worked examples of five lecture decks on convolutional networks, with the numbers of their pages.

Where a page is wrong or unclear, the test states the right value and says so.
"""

import math
from itertools import pairwise

import numpy as np
import pytest

from striate import reference

CROSS = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
EDGE = [[1, 0, -1], [1, 0, -1], [1, 0, -1]]


def one(rows):
    """One picture, or one kernel, of one channel."""
    return np.array(rows)[None, None]


def test_the_sharpening_kernel_over_a_zero_border():
    # Of the page's picture the last column is cut off; the first output needs none of it.
    image = [[105, 102, 100, 97, 96], [103, 99, 103, 101, 102], [101, 98, 104, 102, 100]]
    sharpen = one([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    y = reference.convolve(one(image), sharpen, padding=1)
    assert y[0, 0, 0, 0] == 105 * 5 - 102 - 103 == 320


def test_blur_with_a_replicated_border():
    ring = np.full((5, 5), 100)
    ring[1:4, 1:4] = 0
    blur = one([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    y = reference.convolve(one(ring), blur, padding="same", padding_mode="replicate")[0, 0]
    page = [[94, 81, 75, 81, 94], [81, 44, 25, 44, 81], [75, 25, 0, 25, 75], [81, 44, 25, 44, 81], [94, 81, 75, 81, 94]]
    assert np.rint(y).tolist() == page
    # The page says neither: with zeros around, or without rounding to nearest, its numbers do not come out.
    assert reference.convolve(one(ring), blur, padding="same")[0, 0, 0, 0] == 50
    assert (y[0, 0], y[1, 1]) == (93.75, 43.75)


def test_five_by_five_with_a_cross():
    kernel = one([[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    assert reference.convolve(one(CROSS), kernel)[0, 0].tolist() == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]


def test_five_by_five_features():
    features = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
    kernel = one([[0, 1, 2], [2, 2, 0], [0, 1, 2]])
    assert reference.convolve(one(features), kernel)[0, 0].tolist() == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]


def test_vertical_edge():
    image = [[10, 10, 10, 0, 0, 0]] * 6
    assert reference.convolve(one(image), one(EDGE))[0, 0].tolist() == [[0, 30, 30, 0]] * 4
    # The formula on the pages, f[n] · g[x − n], turns the kernel around; every worked example, as this one, does not.
    assert reference.convolve(one(image), one(EDGE), flip=True)[0, 0].tolist() == [[0, -30, -30, 0]] * 4


def test_the_printed_formula_is_what_flip_computes():
    f, g = np.array([1.0, 2, 0, -1, 3]), np.array([1.0, -2, 4])
    formula = [sum(f[n] * g[x - n] for n in range(5) if 0 <= x - n < 3) for x in range(7)]
    assert reference.convolve(f[None, None], g[None, None], padding=2, flip=True)[0, 0].tolist() == formula


def test_a_volume_of_seven_by_seven_by_three_with_two_filters():
    x = np.zeros((1, 3, 5, 5))
    x[0, 0] = [[0, 0, 2, 0, 2], [1, 2, 2, 2, 0], [0, 2, 1, 0, 0], [0, 2, 0, 2, 1], [1, 0, 2, 2, 0]]
    x[0, 1] = [[1, 0, 0, 2, 0], [1, 0, 1, 0, 1], [0, 0, 2, 1, 2], [1, 2, 1, 0, 0], [1, 2, 2, 0, 2]]
    x[0, 2] = [[0, 2, 2, 1, 0], [0, 2, 0, 0, 1], [1, 1, 1, 2, 1], [2, 0, 1, 2, 2], [2, 1, 1, 0, 0]]
    w = np.empty((2, 3, 3, 3))
    w[0, 0] = [[-1, 0, -1], [1, -1, 1], [-1, 0, -1]]
    w[0, 1] = [[0, -1, 1], [1, 1, 1], [-1, 1, -1]]
    w[0, 2] = [[0, 0, 0], [-1, 1, -1], [1, 1, -1]]
    w[1, 0] = [[0, 1, 1], [-1, -1, -1], [1, -1, 1]]
    w[1, 1] = [[-1, 0, -1], [1, 1, 1], [-1, 1, -1]]
    w[1, 2] = [[0, 1, 0], [0, 0, -1], [1, -1, 0]]
    y = reference.convolve(x, w, [1, 0], stride=2, padding=1)
    assert y[0, 0].tolist() == [[-3, -1, 0], [-1, -8, 2], [3, 0, 3]]
    assert y[0, 1].tolist() == [[1, 4, 2], [-1, 4, 5], [3, 1, 3]]


@pytest.mark.parametrize(("stride", "padding", "out"), [(1, 0, 5), (2, 0, 3), (1, 1, 7), (3, 1, 3)])
def test_sizes_of_seven_by_seven_with_three_by_three(stride, padding, out):
    y = reference.convolve(np.ones((1, 1, 7, 7)), np.ones((1, 1, 3, 3)), stride=stride, padding=padding)
    assert y.shape == (1, 1, out, out)


def test_stride_three_does_not_fit_and_drops_the_rest():
    # (7 − 3)/3 + 1 = 2.33. Four decks say "doesn't fit", one has the floor, one drops the rest: torch, and so this,
    # takes the floor, 2, and never sees the last row and column. Padding 1 or stride 2 use every pixel.
    x, w = np.ones((1, 1, 7, 7)), np.ones((1, 1, 3, 3))
    assert reference.convolve(x, w, stride=3).shape == (1, 1, 2, 2)
    unseen = reference.convolve_backward(1, x, w, stride=3)[0][0, 0] == 0
    assert unseen[6].all()
    assert unseen[:, 6].all()
    assert unseen.sum() == 13
    for options in ({"stride": 3, "padding": 1}, {"stride": 2}):
        assert (reference.convolve_backward(1, x, w, **options)[0] > 0).all()


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 2), (7, 3)])
def test_half_a_kernel_of_zeros_preserves_the_size(kernel, padding):
    w = np.ones((1, 1, kernel, kernel))
    y = reference.convolve(np.ones((1, 1, 9, 9)), w, padding=padding)
    assert y.shape == (1, 1, 9, 9)
    np.testing.assert_array_equal(y, reference.convolve(np.ones((1, 1, 9, 9)), w, padding="same"))


def test_volumes_of_thirty_two():
    x, rng = np.ones((1, 3, 32, 32)), np.random.default_rng(0)
    assert reference.convolve(x, rng.normal(size=(6, 3, 5, 5))).shape == (1, 6, 28, 28)
    assert reference.convolve(np.ones((1, 6, 28, 28)), rng.normal(size=(10, 6, 5, 5))).shape == (1, 10, 24, 24)
    w, b = rng.normal(size=(10, 3, 5, 5)), np.zeros(10)
    assert reference.convolve(x, w, b, padding=2).shape == (1, 10, 32, 32)
    assert (w[0].size + 1, w.size + b.size) == (76, 760)


def test_one_number_is_a_dot_product_of_75_and_a_bias():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(1, 3, 32, 32)), rng.normal(size=(1, 3, 5, 5)), rng.normal(size=1)
    chunk = x[0, :, 7:12, 20:25].ravel()
    assert chunk.size == 75
    assert reference.convolve(x, w, b)[0, 0, 7, 20] == pytest.approx(w.ravel() @ chunk + b[0])


def test_max_pool_and_the_way_back():
    x = one([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]])
    assert reference.max_pool(x, 2)[0, 0].tolist() == [[6, 8], [3, 4]]
    # "Upstream gradient is passed back only to the unit with max value."
    back = reference.max_pool_backward(one([[1, 2], [3, 4]]), x, 2)[0, 0]
    assert back.tolist() == [[0, 0, 0, 0], [0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 4]]


def test_the_four_formulas_of_pooling():
    x = one([[3, 4], [0, 12]])
    assert reference.max_pool(x, 2).item() == 12
    assert reference.average_pool(x, 2).item() == 19 / 4
    assert reference.l2_pool(x, 2).item() == 13
    assert reference.channel_l2_pool([[3.0, 4.0, 12.0]], 3).tolist() == [[5, 13, math.hypot(4, 12)]]


def test_relu_example():
    x = [[1, 14, -9, 4], [-2, -20, 10, 6], [-3, 3, 11, 1], [2, 54, -2, 80]]
    assert reference.relu(x).tolist() == [[1, 14, 0, 4], [0, 0, 10, 6], [0, 3, 11, 1], [2, 54, 0, 80]]


def test_the_formulas_of_activations():
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(reference.sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-14)
    np.testing.assert_array_equal(reference.leaky_relu(x), np.maximum(0.1 * x, x))
    np.testing.assert_allclose(reference.elu(x, alpha=2), np.where(x >= 0, x, 2 * (np.exp(x) - 1)), rtol=1e-12)
    # "Using the sigmoid, the gradient could become smaller and smaller": at most 1/4 a layer.
    assert reference.sigmoid_backward(1, x).max() == 0.25


def test_parameters_of_seven_inputs_and_three_hidden_units():
    x = np.arange(7.0).reshape(1, 1, 7)
    kernel = np.array([1.0, -2, 0.5])
    shared = kernel.reshape(1, 1, 3)
    local = np.tile(kernel, 3).reshape(3, 1, 1, 3)
    full = np.zeros((3, 7))
    for unit in range(3):
        full[unit, 2 * unit : 2 * unit + 3] = kernel
    assert (full.size, local.size, shared.size) == (21, 9, 3)
    y = reference.dense(x, full)
    np.testing.assert_array_equal(reference.locally_connected(x, local, stride=2)[:, 0], y)
    np.testing.assert_array_equal(reference.convolve(x, shared, stride=2)[:, 0], y)


def test_the_edge_filter_of_320_by_280():
    x = np.random.default_rng(0).integers(0, 256, (1, 1, 280, 320))
    w = np.array([1, -1]).reshape(1, 1, 1, 2)
    y = reference.convolve(x, w)
    np.testing.assert_array_equal(y, x[..., :-1] - x[..., 1:])
    assert y.shape == (1, 1, 280, 319)
    assert w.size == 2
    assert y.size * x.size == 8_003_072_000 > 8e9  # a dense matrix
    assert 2 * y.size == 178_640  # a sparse one: each output has two entries
    assert 3 * y.size == 267_960  # two multiplications and an addition an output
    # The page has "> 16e9" for the dense matrix: a multiplication and an addition an entry.
    assert 2 * y.size * x.size == 16_006_144_000


def test_fully_locally_and_convolutionally_connected_for_200_by_200():
    assert 200 * 200 * 40_000 == 1_600_000_000  # the page rounds to "~2B"
    assert 200 * 200 * 100 == 4_000_000
    x = np.ones((1, 1, 200, 200))
    # 4M parameters for 10×10 filters at 40,000 places need padding; only 191² = 36,481 windows lie inside the picture.
    valid = np.broadcast_to(0.01, (191, 191, 1, 1, 10, 10))
    assert valid.size == 3_648_100
    assert reference.locally_connected(x, valid).shape == (1, 1, 191, 191)
    padded = np.broadcast_to(0.01, (200, 200, 1, 1, 10, 10))
    assert padded.size == 4_000_000
    assert reference.locally_connected(x, padded, padding="same").shape == (1, 1, 200, 200)
    assert np.ones((100, 1, 10, 10)).size == 10_000  # "10K parameters", biases not counted
    # Another deck calls 100 filters of 3×3 "locally connected" with 900 parameters: shared weights, a convolution.
    assert np.ones((100, 1, 3, 3)).size == 900


def test_sizes_through_alexnet():
    def conv(size, kernel, stride=1, padding=0):
        w = np.ones((1, 1, kernel, kernel))
        return reference.convolve(np.ones((1, 1, size, size)), w, stride=stride, padding=padding).shape[-1]

    def pool(size):
        return reference.max_pool(np.ones((1, 1, size, size)), 3, 2).shape[-1]

    assert [conv(227, 11, 4), pool(55), conv(27, 5, 1, 2), pool(27), conv(13, 3, 1, 1), pool(13)] == [
        55,
        27,
        27,
        13,
        13,
        6,
    ]
    # 244 on a page is a slip: the filters of the first layer want 227 (or 224 with padding 2), of 244 they see 243.
    assert (244 - 11) % 4 == 1
    assert (227 - 11) % 4 == 0


def test_parameters_of_alexnet():
    def layer(*shape):
        return math.prod(shape) + shape[0]

    assert math.prod((96, 3, 11, 11)) == 34_848  # "35K"
    assert layer(96, 3, 11, 11) == 34_944
    assert layer(256, 96, 5, 5) == 614_656
    assert [layer(384, 256, 3, 3), layer(384, 384, 3, 3), layer(256, 384, 3, 3)] == [885_120, 1_327_488, 884_992]
    # The page's 37,748,737, 16,777,217 and 4,096,001 carry one bias in all; each unit has one.
    page = [37_748_737, 16_777_217, 4_096_001]
    units = [4096, 4096, 1000]
    right = [layer(4096, 256 * 6 * 6), layer(4096, 4096), layer(1000, 4096)]
    assert right == [37_752_832, 16_781_312, 4_097_000]
    assert right == [wrong - 1 + biases for wrong, biases in zip(page, units, strict=True)]


def test_the_network_for_handwritten_digits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 1, 28, 28))
    x = reference.convolve(x, rng.normal(size=(16, 1, 5, 5)), np.zeros(16))
    assert x.shape[1:] == (16, 24, 24)
    x = reference.max_pool(reference.relu(x), 2)
    assert x.shape[1:] == (16, 12, 12)
    x = reference.convolve(x, rng.normal(size=(24, 16, 5, 5)), np.zeros(24))
    assert x.shape[1:] == (24, 8, 8)
    x = reference.max_pool(reference.relu(x), 2)
    assert x.shape[1:] == (24, 4, 4)
    x = reference.relu(reference.dense(x, rng.normal(size=(64, 384))))
    x = reference.dropout(x, 0.5, generator=rng)
    x = reference.dense(x, rng.normal(size=(10, 64)))
    assert x.shape == (2, 10)
    assert reference.softmax(x).sum(axis=1) == pytest.approx(1)


def test_parameters_of_the_multilayer_perceptron():
    assert sum((inputs + 1) * units for inputs, units in pairwise([784, 128, 64, 10])) == 109_386


def test_a_picture_stretched_is_3072_inputs():
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32))
    w = np.random.default_rng(1).normal(size=(10, 3072))
    np.testing.assert_allclose(reference.dense(x, w), reference.dense_as_convolution(x, w), rtol=1e-11)
    # The same again as a convolution whose filters are as large as the picture.
    np.testing.assert_allclose(
        reference.convolve(x, w.reshape(10, 3, 32, 32))[:, :, 0, 0], reference.dense(x, w), rtol=1e-11
    )


def test_a_one_by_one_convolution_is_a_dot_product_of_64_at_every_position():
    x, w = np.random.default_rng(0).normal(size=(1, 64, 5, 5)), np.random.default_rng(1).normal(size=(32, 64, 1, 1))
    y = reference.convolve(x, w)
    assert y.shape == (1, 32, 5, 5)
    np.testing.assert_allclose(y[0, :, 2, 3], w[:, :, 0, 0] @ x[0, :, 2, 3], rtol=1e-11)


def test_receptive_fields_grow():
    x, w = np.ones((1, 1, 9, 9)), np.ones((1, 1, 3, 3))
    hidden = reference.convolve(x, w)
    out = np.zeros((1, 1, 5, 5))
    out[0, 0, 2, 2] = 1
    in_hidden = reference.convolve_backward(out, hidden, w)[0]
    in_x = reference.convolve_backward(in_hidden, x, w)[0]
    assert (np.count_nonzero(in_hidden), np.count_nonzero(in_x)) == (3 * 3, 5 * 5)
    # Pooling over p×p of k×k filters sees a patch of p + k − 1.
    unit = np.zeros((1, 1, 3, 3))
    unit[..., 1, 1] = 1
    seen = reference.average_pool_backward(unit, hidden, 2)
    assert np.count_nonzero(reference.convolve_backward(seen, x, w)[0]) == (2 + 3 - 1) ** 2


def test_convolution_as_a_matrix_product_of_columns():
    columns = reference.im2col(one(CROSS), 3)
    assert columns.shape == (1, 9, 9)
    kernel = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1])
    assert (kernel @ columns[0]).tolist() == [4, 3, 4, 2, 4, 3, 2, 3, 4]


def test_softmax_and_svm_losses_push_the_right_class_up():
    logits, labels = np.array([[1.0, 2.0, 3.0]]), [0]
    for backward in (reference.cross_entropy_backward, reference.hinge_backward):
        step = -backward(logits, labels)[0]
        assert step[0] > 0 > step[1:].max()
        assert step.sum() == pytest.approx(0)
