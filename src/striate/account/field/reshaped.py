"""Receptive fields of a tensor that is viewed in another shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from striate.account.field.intervals import Array, Fields, Seen, Shape, everything

Group = tuple[int, int, int, int]
"""Dimensions `[i, j)` of the old shape hold the same numbers as `[k, l)` of the new one."""


def reshaped(fields: Fields, old: Shape, new: Shape) -> Fields:
    """Fields of the same numbers, in row-major order, as another shape. Only dimensions that are split or merged, and
    along which anything differs, are written out."""
    if math.prod(old) == 0:
        return everything([fields], len(new))
    groups = list(_groups(old, new))
    return tuple(_reshaped(seen, fields, old, new, groups) for seen in fields)


def _groups(old: Shape, new: Shape) -> Iterator[Group]:
    i = k = 0
    while i < len(old) or k < len(new):
        j, m = i, k
        left = right = 1
        if j < len(old):
            left, j = old[j], j + 1
        if m < len(new):
            right, m = new[m], m + 1
        while left != right:
            if left < right:
                left, j = left * old[j], j + 1
            else:
                right, m = right * new[m], m + 1
        yield i, j, k, m
        i, k = j, m


def _reshaped(seen: Seen, fields: Fields, old: Shape, new: Shape, groups: list[Group]) -> Seen:
    wide, sides = list(seen.lo.shape), [1] * len(new)
    for i, j, k, m in groups:
        if any(side > 1 for side in seen.lo.shape[i:j]):
            wide[i:j], sides[k:m] = old[i:j], new[k:m]
    lo, hi = (np.broadcast_to(part, wide).reshape(sides) for part in (seen.lo, seen.hi))
    for dim in (dim for _, _, k, m in groups if m - k > 1 for dim in range(k, m)):
        lo, hi = _compressed(lo, hi, dim)
    home, share = _home(seen, fields, old, new, groups, lo)
    return Seen(lo, hi, seen.jump * share if home is not None else 0.0, home)


def _compressed(lo: Array, hi: Array, dim: int) -> tuple[Array, Array]:
    """A side of 1 where nothing differs along `dim`."""
    if lo.shape[dim] == 1 or not all((part == part.take([0], axis=dim)).all() for part in (lo, hi)):
        return lo, hi
    return lo.take([0], axis=dim), hi.take([0], axis=dim)


def _home(seen: Seen, fields: Fields, old: Shape, new: Shape, groups: list[Group], lo: Array) -> tuple[int | None, int]:
    """The dimension of the new shape that runs along the axis, if one does, and how many steps of old one step is."""
    if seen.dim is None:
        return None, 1
    i, j, k, m = next(group for group in groups if group[0] <= seen.dim < group[1])
    inner = [dim for dim in range(i, j) if old[dim] > 1 or dim == seen.dim]
    outer = [dim for dim in range(k, m) if new[dim] > 1] or list(range(k, m))[:1]
    here = [other for other in fields if other.dim is not None and i <= other.dim < j]
    homes = {other.dim for other in here}
    if not outer or not set(inner) <= homes:
        return None, 1  # mixed with channels, or gone
    if len(outer) == 1:
        return outer[0], 1
    if len(outer) == len(here):
        return outer[next(n for n, other in enumerate(here) if other is seen)], 1
    varying = [dim for dim in outer if lo.shape[dim] > 1]
    if not varying:
        return None, 1
    return varying[0], math.prod(new[varying[0] + 1 : m])
