"""The numerical gradient checker: right gradients pass, wrong ones do not."""

import json

import numpy as np
import pytest

from striate import StriateError, reference
from striate.reference import check_gradient


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def of(name, *arguments, by=0, **options):
    """A function of the room as one of its argument `by`, that argument, and the gradient by it."""

    def replaced(value):
        return [value if i == by else argument for i, argument in enumerate(arguments)]

    def backward(g, value):
        # A bias is added: its gradient does not depend on it, and the backward functions are not given it.
        found = getattr(reference, f"{name}_backward")(g, *replaced(value)[:2], **options)
        return found[by] if isinstance(found, tuple) else found

    return lambda value: getattr(reference, name)(*replaced(value), **options), arguments[by], backward


def loss(name):
    labels = [1, 0, 3]
    gradient = getattr(reference, f"{name}_backward")
    return lambda z: getattr(reference, name)(z, labels), normal(7, 3, 4), lambda g, z: g * gradient(z, labels)


X, W, B = normal(0, 2, 4, 5, 5), normal(1, 4, 2, 3, 3), normal(2, 4)
MASK = np.random.default_rng(2).random(X.shape) > 0.5
CONV = {"stride": (2, 1), "padding": 1, "groups": 2, "padding_mode": "reflect"}
STAMP = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
POOL = {"size": 3, "stride": 2, "padding": 1}
LOCAL = normal(3, 2, 2, 3, 4, 2, 2)
MATRIX = normal(5, 3, 100)
CASES = {
    "convolve by x": of("convolve", X, W, **CONV),
    "convolve by w": of("convolve", X, W, by=1, **CONV),
    "convolve by b": of("convolve", X, W, B, by=2, **CONV),
    "convolve, flipped, by w": of("convolve", X, W, by=1, groups=2, flip=True),
    "transposed by x": of("transposed_convolve", X, W, **STAMP),
    "transposed by w": of("transposed_convolve", X, W, by=1, **STAMP),
    "transposed by b": of("transposed_convolve", X, W, B, by=2, **STAMP),
    "locally connected by x": of("locally_connected", X, LOCAL, stride=2),
    "locally connected by w": of("locally_connected", X, LOCAL, by=1, stride=2),
    "dense by x": of("dense", X, MATRIX),
    "dense by w": of("dense", X, MATRIX, by=1),
    "im2col": (
        lambda x: reference.im2col(x, 3, 2, 1),
        X,
        lambda g, _: reference.col2im(g, (5, 5), 3, 2, 1),
    ),
    "max pool": of("max_pool", X, **POOL),
    "average pool": of("average_pool", X, **POOL),
    "L2 pool": of("l2_pool", X, **POOL),
    "channel L2 pool": of("channel_l2_pool", X, 3),
    "relu": of("relu", X),
    "leaky relu": of("leaky_relu", X),
    "elu": of("elu", X),
    "sigmoid": of("sigmoid", X),
    "tanh": of("tanh", X),
    "swish": of("swish", X),
    "softmax": of("softmax", X),
    "prelu by x": of("prelu", X, B),
    "prelu by slope": of("prelu", X, B, by=1),
    "maxout": of("maxout", X, 2),
    "batch norm": of("batch_norm", X, B),
    "batch norm by weight": of("batch_norm", X, B, by=1),
    "layer norm": of("layer_norm", X),
    "group norm": of("group_norm", X, 2),
    "local response": of("local_response_norm", X, size=3, alpha=0.5),
    "local contrast": of("local_contrast_norm", X, 3),
    "dropout": (
        lambda x: reference.dropout(x, mask=MASK),
        X,
        lambda g, _: reference.dropout_backward(g, MASK),
    ),
    "cross entropy": loss("cross_entropy"),
    "hinge": loss("hinge"),
}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", CASES)
def test_every_gradient_of_the_room_is_right(name):
    function, x, backward = CASES[name]
    found = check_gradient(function, x, backward)
    assert found.ok, str(found)
    assert found.checked == found.entries == np.size(x)


@pytest.mark.each_nth(5)
@pytest.mark.parametrize("name", CASES)
def test_a_gradient_that_is_slightly_wrong_in_one_entry_is_found(name):
    function, x, backward = CASES[name]

    def planted(g, x):
        grad = np.array(backward(g, x))
        grad.flat[np.abs(grad).argmax()] *= 1.0001
        return grad

    found = check_gradient(function, x, planted)
    assert not found.ok
    assert found.max_relative_error == pytest.approx(1e-4, rel=0.02)


def test_it_says_where_and_by_how_much():
    found = check_gradient(lambda x: x**2, [1.0, 2.0, 3.0], lambda g, x: g * x * [2, 2, 1])
    assert found.at == (2,)
    assert found.measured == pytest.approx(2 * found.claimed)
    assert str(found).startswith("wrong: largest relative error 5.0e-01 (tolerance 1e-06), at [2]:")
    assert json.loads(json.dumps(found.to_json()))["at"] == [2]


def test_an_array_is_taken_as_the_gradient_of_the_sum():
    assert check_gradient(lambda x: x**2, [1.0, 2.0], [2.0, 4.0]).ok
    assert not check_gradient(lambda x: x**2, [1.0, 2.0], [2.0, 5.0]).ok
    assert check_gradient(lambda x: float(x**3), 2.0, 12.0).ok


def test_at_a_corner_every_slope_between_its_sides_is_right():
    for claimed, right in [(0, True), (1, True), (0.3, True), (-0.1, False), (1.1, False)]:
        found = check_gradient(reference.relu, [0.0], [float(claimed)])
        assert (found.ok, found.corners) == (right, 1)


@pytest.mark.parametrize("slope", [-1, 0, 0.5, 1, 7])
def test_a_corner_is_one_whatever_slope_is_claimed_there(slope):
    def backward(g, x):
        return g * np.where(x == 0, slope, np.sign(x))

    assert reference.check_gradient(np.abs, np.array([0.0, 2.0]), backward).corners == 1
    bent = reference.check_gradient(lambda x: np.sin(300 * x), np.array([0.0, 2.0]), backward)
    assert bent.corners == 0


def test_a_corner_near_x_does_not_spoil_the_comparison():
    found = check_gradient(reference.relu, [3e-6, -3e-6], reference.relu_backward)
    assert found.ok
    assert found.corners == 0


def test_a_gradient_that_is_not_finite_is_wrong():
    found = check_gradient(lambda x: x**2, [1.0], [float("nan")])
    assert not found.ok
    assert found.to_json()["max_relative_error"] is None
    json.dumps(found.to_json(), allow_nan=False)


def test_large_values_are_not_taken_for_wrong_gradients():
    assert check_gradient(lambda x: x + 1e7, normal(0, 20), lambda g, _: g).ok
    assert not check_gradient(lambda x: x + 1e7, normal(0, 20), lambda g, _: 1.1 * g).ok


def test_options():
    def count(x):
        calls.append(x)
        return x**2

    calls = []
    found = check_gradient(count, normal(0, 1000), lambda g, x: 2 * g * x, entries=5)
    assert (found.checked, found.entries, len(calls)) == (5, 1000, 16)
    wrong = lambda g, x: 2.001 * g * x  # noqa: E731
    assert not check_gradient(lambda x: x**2, [1.0], wrong).ok
    assert check_gradient(lambda x: x**2, [1.0], wrong, tolerance=1e-2).ok
    assert check_gradient(np.exp, [1.0], lambda g, x: g * np.exp(x), step=0.1).max_relative_error > 1e-7
    at = {check_gradient(lambda x: x**2, normal(0, 50), lambda g, _: g, entries=1, seed=seed).at for seed in range(9)}
    assert len(at) > 3


def test_x_is_not_changed():
    x = normal(0, 5)
    before = x.copy()
    check_gradient(lambda x: x.sort() or x, x, lambda g, _: g)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda: check_gradient(np.log, [0.0], lambda g, _: g),
        lambda: check_gradient(lambda x: x, [1.0], [1.0, 2.0]),
        lambda: check_gradient(lambda x: x, [], []),
        lambda: check_gradient(lambda x: x, [1.0], [1.0], step=0),
        lambda: check_gradient(lambda x: x, [1.0], [1.0], tolerance=float("nan")),
        lambda: check_gradient(lambda x: x, [1.0], [1.0], entries=0),
        lambda: check_gradient(lambda _: "?", [1.0], [1.0]),
    ],
)
def test_what_cannot_be_checked_is_refused(call):
    with np.errstate(all="ignore"), pytest.raises(StriateError):
        call()
