"""Dropout, and its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import Array, array, gradient, number


def dropout_mask(shape: tuple[int, ...], p: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """A mask that is True for each unit that stays; units stay with probability 1 − p."""
    given: object = generator
    if not isinstance(given, np.random.Generator):
        expected = "a generator: nothing here draws from hidden state"
        raise UsageError("generator", type(given).__name__, expected, "generator=np.random.default_rng(0)")
    return generator.random(shape) >= number(p, "p", low=0, high=1)


def dropout(
    x: ArrayLike,
    p: float = 0.5,
    *,
    mask: ArrayLike | None = None,
    generator: np.random.Generator | None = None,
) -> Array:
    """x · mask / (1 − p) as in training: units that stay are scaled up, so that the expectation is x.

    Takes the `mask` (True: the unit stays; of the shape of x), or the `generator` from which `dropout_mask` draws it.
    In evaluation, dropout is the identity. Source: Srivastava et al., "Dropout", JMLR 2014."""
    x, p = array(x, "x"), number(p, "p", low=0, high=1)
    if mask is None and generator is not None:
        return x * _scale(dropout_mask(x.shape, p, generator), x.shape, p)
    if mask is None or generator is not None:
        got = "neither" if mask is None else "both"
        raise UsageError("mask, generator", got, "one of them", "generator=np.random.default_rng(0)")
    return x * _scale(mask, x.shape, p)


def dropout_backward(grad_out: ArrayLike, mask: ArrayLike, p: float = 0.5) -> Array:
    """grad_out · mask / (1 − p): the gradient passes through the same units as the signal."""
    shape = array(mask, "mask").shape
    return gradient(grad_out, shape) * _scale(mask, shape, p)


def _scale(mask: ArrayLike, shape: tuple[int, ...], p: float) -> Array:
    kept = array(mask, "mask")
    if not np.isin(kept, (0, 1)).all():
        raise UsageError(
            "mask", f"{np.asarray(mask).dtype} with other values than 0 and 1", "True for what stays", "mask > 0"
        )
    if kept.shape != shape:
        raise ShapeError("mask", f"shape {kept.shape}", f"shape {shape}, as x", f"mask=np.ones({shape}, dtype=bool)")
    p = number(p, "p", low=0, high=1)
    return np.where(kept, 1 / (1 - p) if p < 1 else 0, 0.0)
