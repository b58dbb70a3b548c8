"""Gradient check: compare a gradient with central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import UsageError
from striate.reference.arguments import Array, array, exact, number, whole
from striate.wording import several

STEP = 1e-5
TOLERANCE = 1e-6
BEND = 1e-3
"""If the slopes before and after x differ by a larger share, x may be at a kink."""
SMALLEST = 1e-3
"""Slopes below this are compared in absolute terms: at zero there is no relative error."""


@dataclass(frozen=True)
class GradientCheck:
    """The result of comparing a gradient with measured slopes. The error of an entry is |claimed − measured| /
    max(|claimed|, |measured|, 0.001)."""

    ok: bool
    """Whether no relative error exceeds `tolerance`."""
    max_relative_error: float
    at: tuple[int, ...]
    """Index of the entry with the largest error."""
    claimed: float
    """The slope at this entry by the backward pass."""
    measured: float
    """The slope at this entry by central differences."""
    checked: int
    """Number of compared entries."""
    entries: int
    """Number of all entries."""
    corners: int
    """Number of compared entries where the function has a corner, as ReLU at 0: any slope between those of its two
    sides is right."""
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object; an infinite error is null."""
        numbers = {key: value if np.isfinite(value) else None for key, value in asdict(self).items() if key != "at"}
        return numbers | {"ok": self.ok, "at": list(self.at)}

    def __str__(self) -> str:
        verdict = "right" if self.ok else "wrong"
        place = "[" + ", ".join(map(str, self.at)) + "]"
        corners = f", {self.corners} at corners" if self.corners else ""
        return (
            f"{verdict}: largest relative error {self.max_relative_error:.1e} (tolerance {self.tolerance:.0e}), "
            f"at {place}: {self.claimed:.9g} claimed, {self.measured:.9g} measured; "
            f"{self.checked} of {several(self.entries, 'entry', 'entries')}{corners}"
        )


def check_gradient(
    function: Callable[[Array], ArrayLike],
    x: ArrayLike,
    backward: Callable[[Array, Array], ArrayLike] | ArrayLike,
    *,
    step: float = STEP,
    tolerance: float = TOLERANCE,
    entries: int | None = None,
    seed: int = 0,
) -> GradientCheck:
    """Compare a gradient with (L(x + h) − L(x − h)) / 2h along each entry of x, h = step · max(1, |entry|).

    `function(x)` returns a number or an array; `backward(grad_out, x)` returns the gradient with respect to x, like the
    functions of this package. L is the sum of outputs times `grad_out`, drawn from `seed`, so that all outputs count.
    `backward` may also be an array: the gradient of the sum of the outputs. `entries`: the number of entries to
    compare, drawn from `seed`. UsageError where the function is not finite near x, ShapeError where the gradient does
    not have the shape of x."""
    x = array(x, "x").copy()
    y = _values(function, x)
    # Not from the seed alone: x may be drawn from it too, and grad_out equal to x would be a special case.
    random = np.random.default_rng((whole(seed, "seed", 0, 2**62), 1))
    g = random.normal(size=y.shape) if callable(backward) else np.ones(y.shape)
    claimed = backward(g.copy(), x.copy()) if callable(backward) else backward
    claimed = exact(claimed, "gradient", x.shape)

    def loss() -> float:
        return float((g * _values(function, x, y.shape)).sum())

    return compare_slopes(loss, x, claimed, float(np.abs(g * y).sum()), step, tolerance, choose(x.size, entries, seed))


def compare_slopes(
    loss: Callable[[], float],
    x: Array,
    claimed: Array,
    magnitude: float,
    step: float,
    tolerance: float,
    chosen: Sequence[int],
) -> GradientCheck:
    """Compare `claimed` with slopes of `loss`, which reads x, while `chosen` entries of x are moved and put back.

    `magnitude`: how large the terms are that `loss` adds up, for what rounding alone may do to a difference.
    """
    step, tolerance = number(step, "step", above=0), number(tolerance, "tolerance", above=0)
    found = [_judge(loss, x, int(i), float(claimed.flat[i]), magnitude, step, tolerance) for i in chosen]
    worst = int(np.argmax([error for error, _, _ in found]))
    return GradientCheck(
        ok=bool(found[worst][0] <= tolerance),
        max_relative_error=found[worst][0],
        at=tuple(int(i) for i in np.unravel_index(chosen[worst], x.shape)),
        claimed=float(claimed.flat[chosen[worst]]),
        measured=found[worst][1],
        checked=len(chosen),
        entries=x.size,
        corners=sum(corner for _, _, corner in found),
        tolerance=tolerance,
    )


def choose(count: int, entries: int | None, seed: int) -> list[int]:
    """Which of `count` entries are compared: all, or `entries` of them drawn from `seed`, in order."""
    if count == 0:
        raise UsageError("x", "no entries", "at least one number to move", "x=np.ones(3)")
    if entries is None or whole(entries, "entries") >= count:
        return list(range(count))
    return sorted(int(i) for i in np.random.default_rng(seed).choice(count, size=entries, replace=False))


def _judge(
    loss: Callable[[], float], x: Array, entry: int, claimed: float, magnitude: float, step: float, tolerance: float
) -> tuple[float, float, bool]:
    """Relative error, measured slope, and whether the function has a corner at x, independent of `claimed`."""

    def rounding(h: float) -> float:
        return float(4 * np.finfo(np.float64).eps * magnitude / h)

    def relative(measured: float, h: float) -> float:
        # The rounding error of a difference of two sums is not an error of the gradient.
        error = abs(claimed - measured) / max(abs(claimed), abs(measured), SMALLEST, rounding(h) / tolerance)
        return float(error) if np.isfinite(error) else float("inf")

    left, first, right = _slopes(loss, x, entry, step)
    corner = False
    if abs(right - left) > max(BEND * max(abs(left), abs(right), SMALLEST), 2 * rounding(step / 100)):
        # With smaller steps, the difference of slopes vanishes for a smooth function, and for a corner beside x.
        before, _, after = _slopes(loss, x, entry, step / 100)
        corner = abs(after - before) > abs(right - left) / 2
    if relative(first, step) <= tolerance:
        return relative(first, step), first, corner
    # A smaller step excludes a corner near x, but not at x; the error of a wrong gradient stays.
    less = abs(claimed - first) / 10
    for h in (step / 10, step / 100):
        before, central, after = _slopes(loss, x, entry, h)
        if relative(central, h) <= tolerance and abs(claimed - central) <= less:
            return relative(central, h), central, corner
    nearest = min(max(claimed, min(before, after)), max(before, after))
    if relative(nearest, h) <= tolerance and abs(claimed - nearest) <= less:
        return relative(nearest, h), central, True
    return relative(first, step), first, corner


def _slopes(loss: Callable[[], float], x: Array, entry: int, step: float) -> tuple[float, float, float]:
    """The slopes before, around and after x along one entry."""
    value = x.flat[entry]
    h = step * max(1.0, abs(value))
    above, below, here = value + h, value - h, loss()
    try:
        x.flat[entry] = above
        after = loss()
        x.flat[entry] = below
        before = loss()
    finally:
        x.flat[entry] = value
    # x + h is rounded, so the actual difference is the divisor.
    return (
        float((here - before) / (value - below)),
        float((after - before) / (above - below)),
        float((after - here) / (above - value)),
    )


def _values(function: Callable[[Array], ArrayLike], x: Array, shape: tuple[int, ...] | None = None) -> Array:
    y = array(function(x.copy()), "function(x)")
    if not np.isfinite(y).all() or (shape is not None and y.shape != shape):
        got = (
            "values that are not finite"
            if shape in (None, y.shape)
            else f"shapes {shape} and {y.shape} near each other"
        )
        raise UsageError("function(x)", got, "finite values of one shape near x", "another x, or a smaller step")
    return y
