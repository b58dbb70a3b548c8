"""All windows of a map as columns of a matrix, so that a convolution is one matrix product; and the adjoint."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError
from striate.reference.arguments import Array, Size, array, maps, per_axis
from striate.reference.windows import pad, pad_backward, windows


def im2col(x: ArrayLike, kernel: Size, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1) -> Array:
    """x (N, C, *size) → (N, C · positions in the kernel, windows), 1 to 3 spatial axes; `padding` adds zeros.

    `w.reshape(K, -1) @ im2col(x, …)` is `convolve(x, w, …)` with its spatial axes in one. As `torch.nn.Unfold`.
    UsageError, ShapeError where sizes do not fit.
    """
    x = maps(x)
    seen = windows(x.shape[2:], kernel, stride, padding, dilation)
    padded = pad(x, seen.pads)
    rows = np.stack([padded[met] for _, met in seen.taps()], axis=2)
    return rows.reshape(len(x), x.shape[1] * rows.shape[2], int(np.prod(seen.out)))


def col2im(
    columns: ArrayLike,
    size: tuple[int, ...],
    kernel: Size,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
) -> Array:
    """The adjoint of `im2col`, and so its gradient: every entry is added at the position that it comes from,
    (N, C, *size).

    `size` is the spatial size of the map. Entries of overlapping windows are summed. As `torch.nn.Fold`.
    """
    values = array(columns, "columns")
    if not isinstance(size, (tuple, list)) or not 1 <= len(size) <= 3:
        raise ShapeError("size", repr(size), "1 to 3 spatial sizes, a tuple", "size=(28, 28)")
    seen = windows(per_axis(size, len(size), "size"), kernel, stride, padding, dilation)
    positions, count = int(np.prod(seen.kernel)), int(np.prod(seen.out))
    if values.ndim != 3 or values.shape[1] % positions or values.shape[2] != count:
        expected = f"(N, C · {positions}, {count}) for {seen.out} windows of {seen.kernel}"
        raise ShapeError(
            "columns", f"shape {values.shape}", expected, f"im2col(x, …) of an x with spatial size {seen.size}"
        )
    rows = values.reshape(len(values), values.shape[1] // positions, positions, *seen.out)
    padded = pad(np.zeros((*rows.shape[:2], *seen.size)), seen.pads)
    for i, (_, met) in enumerate(seen.taps()):
        padded[met] += rows[:, :, i]
    return pad_backward(padded, seen.pads)
