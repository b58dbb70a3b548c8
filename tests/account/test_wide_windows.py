"""Windows of many positions are accounted for by their ends: with the same result as position by position."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from striate.account.field import window as module
from striate.account.field.intervals import input_fields
from striate.account.field.rules_of_windows import through
from striate.account.field.window import Window


def window(size: int, kernel: int, stride: int, dilation: int, pad: int) -> Window:
    outputs = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    assume(outputs > 0)
    return Window((size,), (outputs,), (kernel,), (stride,), (pad,), (pad,), (dilation,))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(0, 6), st.booleans())
def test_by_their_ends_as_by_all_positions(size, kernel, stride, dilation, pad, before) -> None:
    seen = window(size, kernel, stride, dilation, pad)
    fields = input_fields((1, 1, size))
    if before:
        fields = through(fields, window(size, 3, 1, 1, 1), 3, 3)
    results, usual = [], module._MANY
    for many in (usual, 0):
        module._MANY = many
        try:
            results.append((seen.leftover(), through(fields, seen, 3, 3)))
        finally:
            module._MANY = usual
    (left, one), (right, other) = results
    assert left == right
    assert one[0].jump == other[0].jump
    assert np.array_equal(one[0].lo, other[0].lo)
    assert np.array_equal(one[0].hi, other[0].hi)
