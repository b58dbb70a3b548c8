"""One map as four layers: the lectures' numbers, and matrices built from the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from striate import reference
from striate.account.connectivity import Connection, compare_connectivity
from striate.errors import UsageError


def layers_of(*args, **options) -> dict[str, Connection]:
    return {layer.name: layer for layer in compare_connectivity(*args, **options).layers}


def test_the_edge_filter_of_the_lectures() -> None:
    found = compare_connectivity((1, 280, 320), (1, 2))
    assert found.out_shape == (1, 280, 319)
    layers = {layer.name: layer for layer in found.layers}
    assert layers["fully connected"].weights == 320 * 280 * 319 * 280 == 8_003_072_000
    assert layers["fully connected"].operations > 16e9
    assert layers["sparse matrix"].weights == 2 * 319 * 280 == 178_640
    assert layers["convolution"].weights == 2
    assert layers["convolution"].operations == layers["sparse matrix"].operations == 319 * 280 * 3 == 267_960


def test_200_by_200_pixels_with_40_thousand_hidden_units() -> None:
    layers = layers_of((1, 200, 200), (10,), padding="same")
    assert layers["fully connected"].parameters == 1_600_000_000
    assert layers["locally connected"].parameters == 4_000_000
    # Without padding there are 191 × 191 units.
    assert layers_of((1, 200, 200), (10,))["locally connected"].parameters == 3_648_100
    assert layers_of((1, 200, 200), (10,), filters=100)["convolution"].parameters == 10_000


def matrix_of(shape, kernel, w, stride, padding) -> np.ndarray:
    """The matrix of the convolution: each column is what one input alone gives."""
    size = int(np.prod(shape))
    return reference.convolve(np.eye(size).reshape(size, *shape), w, stride=stride, padding=padding).reshape(size, -1).T


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    filters=st.integers(1, 3),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    bias=st.booleans(),
)
def test_all_four_are_the_same_map_and_counted_right(shape, kernel, filters, stride, padding, bias) -> None:
    assume(all(k <= n + 2 * p for k, n, p in zip(kernel, shape[1:], padding, strict=True)))
    found = compare_connectivity(shape, kernel, filters=filters, stride=stride, padding=padding, bias=bias)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(filters, shape[0], *kernel))
    b = rng.normal(size=filters) if bias else np.zeros(filters)
    x = rng.normal(size=(1, *shape))
    convolved = reference.convolve(x, w, b, stride=stride, padding=padding)
    assert found.out_shape == convolved.shape[1:]
    full = matrix_of(shape, kernel, w, stride, padding)
    own = np.broadcast_to(w, (*found.out_shape[1:], *w.shape)).copy()
    everywhere = np.broadcast_to(b[:, None, None], found.out_shape).copy()
    local = reference.locally_connected(x, own, everywhere, stride=stride, padding=padding)
    stored = sparse.csr_array(full)
    for other in (full @ x.ravel() + everywhere.ravel(), stored @ x.ravel() + everywhere.ravel(), local.ravel()):
        np.testing.assert_allclose(other, convolved.ravel(), atol=1e-12)
    layers = {layer.name: layer for layer in found.layers}
    assert layers["fully connected"].parameters == full.size + bias * everywhere.size
    assert layers["locally connected"].parameters == own.size + bias * everywhere.size
    assert layers["convolution"].parameters == w.size + bias * b.size
    assert layers["sparse matrix"].weights == stored.nnz
    assert layers["sparse matrix"].indices == stored.indices.size + stored.indptr.size
    rows = np.diff(stored.indptr)
    assert layers["sparse matrix"].operations == int(np.maximum(2 * rows - 1, 0).sum()) + bias * everywhere.size


@pytest.mark.parametrize("shape", [(2, 9), (1, 5, 6), (1, 4, 5, 6)])
def test_signals_images_and_volumes(shape: tuple[int, ...]) -> None:
    found = compare_connectivity(shape, (3,), filters=2)
    assert found.out_shape == (2, *(side - 2 for side in shape[1:]))
    assert found.kernel == (3,) * (len(shape) - 1)


@given(
    shape=st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_positions_that_no_window_reads_are_told(shape, kernel, stride, padding) -> None:
    assume(all(k <= n + 2 * p for k, n, p in zip(kernel, shape[1:], padding, strict=True)))
    matrix = matrix_of(shape, kernel, np.ones((1, 1, *kernel)), stride, padding)
    unread = int((matrix.sum(axis=0) == 0).sum())
    said = compare_connectivity(shape, kernel, stride=stride, padding=padding).unread
    assert said.partition(" of ")[0] == (f"{unread}" if unread else "")


def test_what_is_left_over_comes_with_the_arithmetic() -> None:
    both = compare_connectivity((1, 7, 7), (3,), stride=(3,)).unread
    assert both == "13 of 49 positions; along each side, (7−3)/3+1 = 2.33, so 2 windows read 6 of 7"
    one = compare_connectivity((1, 7, 9), (3,), stride=(3,)).unread
    assert one == "9 of 63 positions; (7−3)/3+1 = 2.33, so 2 windows read 6 of 7"
    assert compare_connectivity((1, 10**5), (5 * 10**4,), stride=(10**4,)).unread == ""


def test_biases_are_not_among_the_zeros() -> None:
    words = {
        layer.name: layer.description for layer in compare_connectivity((1, 3), (3,), bias=True, padding=(1,)).layers
    }
    assert words["fully connected"].endswith("of these 9 all but 7 would be zero; plus 3 biases")
    assert words["convolution"].endswith("shared by all 3 positions; plus 1 bias")
    assert compare_connectivity((1, 3), (3,)).layers[2].description == "1 kernel of 1×3, at the only position"


def test_json_is_the_record_with_parameters() -> None:
    document = compare_connectivity((1, 5, 5), (3,), bias=True).to_json()
    assert [layer["parameters"] for layer in document["layers"]] == [25 * 9 + 9, 81 + 9, 10, 81 + 9]


@pytest.mark.parametrize(
    ("shape", "kernel", "options", "remedy"),
    [
        ((5,), (3,), {}, "striate connectivity 1x280x320 --kernel 1x2"),
        ((1, 5, 5), (3, 3, 3), {}, "--kernel 3x3"),
        ((1, 5, 5), (0,), {}, "--kernel 1x1"),
        ((1, 5, 9), (7,), {}, "--kernel 5x7"),
        ((1, 5, 5), (3,), {"filters": 0}, "--filters 1"),
        ((1, 5, 5), (3,), {"stride": (0,)}, "--stride 1x1"),
        ((1, 5, 5), (3,), {"padding": "same", "stride": (2,)}, "--stride 1"),
        ((1, 5, 5), (3,), {"padding": "full"}, "--pad same"),
        ((1, 10**9), (3,), {}, "striate connectivity 1x280x320 --kernel 1x2"),
    ],
)
def test_what_does_not_fit_is_explained(shape, kernel, options, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare_connectivity(shape, kernel, **options)
    assert caught.value.remedy == remedy
