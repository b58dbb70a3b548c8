"""Arrays of MATLAB files are those that SciPy writes, and reads."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from striate.data.sources.svhn import TooLarge, read_arrays

KINDS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def written(values: dict[str, np.ndarray], **options: bool) -> bytes:
    out = BytesIO()
    savemat(out, values, **options)
    return out.getvalue()


@given(
    st.sampled_from(KINDS), st.lists(st.integers(0, 5), min_size=2, max_size=4), st.booleans(), st.integers(0, 2**31)
)
def test_it_reads_what_scipy_writes(kind: str, shape: list[int], compressed: bool, seed: int) -> None:
    x = np.random.default_rng(seed).integers(0, 100, shape).astype(kind)
    data = written({"other": "text", "a_longer_name": x, "X": x + x}, do_compression=compressed)
    found, theirs = read_arrays(data, ("a_longer_name", "X"), 1 << 20), loadmat(BytesIO(data))
    assert found.keys() == {"a_longer_name", "X"}
    for name, values in found.items():
        assert (values.dtype, values.shape) == (theirs[name].dtype, theirs[name].shape)
        assert np.array_equal(values, theirs[name])


@pytest.mark.parametrize("compressed", [False, True])
def test_more_than_the_limit_is_refused(compressed: bool) -> None:
    data = written({"X": np.zeros((1000, 1000))}, do_compression=compressed)
    assert read_arrays(data, ("X",), 9_000_000)["X"].shape == (1000, 1000)
    with pytest.raises(TooLarge):
        read_arrays(data, ("X",), 7_000_000)


@pytest.mark.parametrize("value", [np.array([[1 + 2j]]), {"a": 1}, np.array([["a", 1]], object), "text"])
def test_what_is_no_array_of_real_numbers_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="real numbers"):
        read_arrays(written({"X": value}), ("X",), 1 << 20)  # type: ignore[dict-item]
