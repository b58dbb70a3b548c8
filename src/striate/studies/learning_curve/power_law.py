"""From errors at several sizes to a power law, and to the gain of twice the samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from striate.studies.learning_curve.learning_curve import DoublingGain, PowerLaw

LEVEL = 0.95
_DRAWS = 400
_STEEPEST, _RISING, _GRID = 2.0, -0.5, 101
Floats = NDArray[np.float64]
_LEAST_LOSSES = 5
"""With fewer wrong predictions on all samples, no power law can be fitted."""


def fit_power_law(sizes: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """The law with the least squared relative deviations from (M,) `errors` above 0 at (M,) `sizes`.

    The floor lies between 0 and the smallest error, the exponent between −0.5 (the error rises) and 2. For a given
    exponent, scale and floor are a linear regression; the exponent is found by a search. Source of the form: J.
    Hestness et al., "Deep learning scaling is predictable, empirically", 2017.
    """
    n, error = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    unit = n.max()  # scales are relative to the largest size, which is numerically stable

    def best(exponents: ArrayLike) -> tuple[Floats, Floats, Floats]:
        return _regressed((n / unit) ** -np.asarray(exponents, np.float64)[..., None], error)

    def deviation(exponent: float) -> float:
        return float(best(exponent)[0])

    grid = np.linspace(_RISING, _STEEPEST, _GRID)
    place = int(best(grid)[0].argmin())
    around = (float(grid[max(0, place - 1)]), float(grid[min(_GRID - 1, place + 1)]))
    exponent = float(minimize_scalar(deviation, bounds=around, method="bounded").x)
    _, scale, floor = best(exponent)
    return PowerLaw(float(scale) * float(unit) ** exponent, exponent, float(floor))


def _regressed(x: NDArray[np.float64], error: NDArray[np.float64]) -> tuple[Floats, Floats, Floats]:
    """Squared relative deviations of `scale` · x + `floor` from the errors (M,), and scale and floor, for x (…, M)."""
    weighted, inverse = x / error, 1 / error
    xx, xi, ii = (weighted**2).sum(-1), (weighted * inverse).sum(-1), (inverse**2).sum()
    determinant = xx * ii - xi**2
    level = determinant < 1e-9 * xx * ii  # where x is constant, the floor is undetermined
    free = (xx * inverse.sum() - xi * weighted.sum(-1)) / np.where(level, 1.0, determinant)
    floor = np.where(level, 0.0, np.clip(free, 0.0, error.min()))
    scale = np.maximum(0.0, (weighted.sum(-1) - floor * xi) / xx)
    off = scale[..., None] * weighted + floor[..., None] * inverse - 1
    return (off**2).sum(-1), scale, floor


def gain_of_twice(
    losses: Sequence[tuple[int, NDArray[np.float64]]],
    total: Callable[[NDArray[np.float64]], float],
    *,
    least: float = 1e-300,
    resolution: float = 0.0,
) -> DoublingGain | None:
    """The gain of twice the largest size.

    `losses`: for each training its number of samples, and (T, …) a row for each test sample, in the same order for all.
    `total` makes one error of rows (a mean, its root, a share), at least `least`. The interval is a bootstrap over test
    samples (the same for all trainings) and over the trainings of each size; it is `told` where all of it lies above
    `resolution`. None where fewer than 5 samples have a loss at the largest size, or there are fewer than 3 sizes.
    """
    sizes = sorted({n for n, _ in losses})
    groups = [np.stack([loss for n, loss in losses if n == size]) for size in sizes]
    if len(sizes) < 3 or _imperfect(groups[-1], total) < _LEAST_LOSSES:
        return None
    tests = groups[0].shape[1]

    def law(rows: Sequence[NDArray[np.int64]], places: NDArray[np.int64]) -> PowerLaw:
        errors = [
            float(np.mean([total(group[row][places]) for row in chosen]))
            for group, chosen in zip(groups, rows, strict=True)
        ]
        return fit_power_law(sizes, [max(least, error) for error in errors])

    everything: list[NDArray[np.int64]] = [np.arange(len(group)) for group in groups]
    fitted = law(everything, np.arange(tests))
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        rows = [np.asarray(rng.integers(0, len(group), size=len(group))) for group in groups]
        drawn.append(_gain(law(rows, np.asarray(rng.integers(0, tests, size=tests))), sizes[-1]))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return DoublingGain(fitted, _gain(fitted, sizes[-1]), (float(low), float(high)), bool(low > resolution))


def _imperfect(rows: NDArray[np.float64], total: Callable[[NDArray[np.float64]], float]) -> int:
    """How many samples any of the trainings (B, T, …) predicts wrongly, at least in part."""
    return sum(any(total(training[k : k + 1]) > 0 for training in rows) for k in range(rows.shape[1]))


def _gain(law: PowerLaw, n: int) -> float:
    return law.error(n) - law.error(2 * n)
