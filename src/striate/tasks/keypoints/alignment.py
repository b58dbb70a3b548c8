"""The mean shape of a set of points, and its rotation and scale that fit best to given points.

Generalized Procrustes analysis (Gower 1975) with rotations in the plane, as complex numbers x + iy: a similarity is
z → a z + b, its least-squares fit a quotient of two sums.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from striate.tasks.found import Found

_TURNS = 10
_NARROW = 0.5
"""Smallest ratio of the shorter to the longer side of a cut-out rectangle, since points may lie on a line."""

Shape = tuple[tuple[float, float], ...]


def usual_shape(places: NDArray[np.float64], seen: NDArray[np.bool_]) -> Shape:
    """(K) right and down of the mean shape of points (N, K, 2) that are `seen` (N, K), with size 1 and their mean
    rotation. NaN for points that are never seen; empty where no sample has two points."""
    z, weights = places[..., 0] + 1j * places[..., 1], seen.astype(np.float64)
    weights = weights[seen.sum(1) > 1]
    z = np.where(weights > 0, z[seen.sum(1) > 1], 0)
    never = seen.sum(0) == 0
    if not len(z):
        return ()
    mean = z[weights.sum(1).argmax()]
    for _ in range(_TURNS):
        factors, shifts = zip(*(similarity(mean, one, own) for one, own in zip(z, weights, strict=True)), strict=True)
        a, b = np.array(factors), np.array(shifts)
        known = np.abs(a) > 1e-12
        back = (z[known] - b[known, None]) / a[known, None]
        mean = (back * weights[known]).sum(0) / np.maximum(weights[known].sum(0), 1e-12)
        mean = np.where(never, 0, mean)
        mean = mean - mean[~never].mean()
        turn = (a / np.maximum(np.abs(a), 1e-12)).sum()
        mean = mean / np.sqrt((np.abs(mean[~never]) ** 2).mean()) * (turn / abs(turn) if abs(turn) > 1e-9 else 1)
    mean = np.where(never, np.nan, mean)
    return tuple((float(p.real) if p == p else math.nan, float(p.imag) if p == p else math.nan) for p in mean)


def similarity(shape: NDArray[np.complex128], points: NDArray[np.complex128], weights: NDArray[np.float64]) -> tuple[
    complex, complex
]:  # fmt: skip
    """a and b of the weighted least-squares fit of a · shape + b to the points."""
    total = weights.sum()
    one, other = (shape * weights).sum() / total, (points * weights).sum() / total
    squared_size = (np.abs(shape - one) ** 2 * weights).sum()
    a = complex((np.conj(shape - one) * (points - other) * weights).sum() / max(float(squared_size), 1e-12))
    return a, complex(other - a * one)


def aligned(shape: Shape, points: NDArray[np.float64]) -> Found:
    """The box around the mean shape where it fits points (K, 3) best; these are x and y in pixels, and confidence, by
    which points are weighted."""
    z = np.array([complex(*place) for place in shape])
    known = np.isfinite(z)
    weights = np.where(known, points[:, 2].clip(1e-3), 0.0)
    z = np.where(known, z, 0)
    a, b = similarity(z, points[:, 0] + 1j * points[:, 1], weights)
    x, y = z.real[known], z.imag[known]
    sides = np.array([np.ptp(x), np.ptp(y)])
    wide, high = (abs(a) * np.maximum(sides, _NARROW * sides.max())).tolist()
    center = a * complex((x.min() + x.max()) / 2, (y.min() + y.max()) / 2) + b
    angle = -math.degrees(math.atan2(a.imag, a.real))  # y runs down
    return Found("", float(points[:, 2].mean()), (center.real, center.imag), (wide, high), angle)
