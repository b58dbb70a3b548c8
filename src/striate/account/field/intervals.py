"""Receptive fields of the numbers of a tensor, as intervals along each input axis, attached to the tensor itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from striate.observe.torch_calls import Operation

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """The interval along one axis of the input that each number of a tensor depends on."""

    first: Array
    """First input position, in an array that broadcasts to the tensor's shape: a dimension has side 1 where all numbers
    along it depend on the same positions; +inf where a number depends on no input."""
    last: Array
    """Last input position, in an array of the same form; −inf where a number depends on no input."""
    jump: float
    """Distance between the fields of neighbors along `dim`, in input positions."""
    dim: int | None
    """The dimension of the tensor that runs along this axis; None if no dimension does."""
    period: int = 1
    """Number of neighbors after which fields repeat; 1 unless something was upsampled."""
    flattened: tuple[Shape, Shape] | None = None
    """Of a flattened tensor, the shape that the arrays broadcast to, and the shape that the result is reshaped to. The
    arrays are expanded only when they are read, as a map of many channels takes far more memory expanded."""

    @property
    def lo(self) -> Array:
        """`first` with the dimensions of the tensor."""
        return self._written(self.first)

    @property
    def hi(self) -> Array:
        """`last` with the dimensions of the tensor."""
        return self._written(self.last)

    def _written(self, part: Array) -> Array:
        if self.flattened is None:
            return part
        wide, sides = self.flattened
        return np.broadcast_to(part, wide).reshape(sides)

    @property
    def ndim(self) -> int:
        """Dimensions of the tensor."""
        return self.first.ndim if self.flattened is None else len(self.flattened[1])

    @property
    def size(self) -> int:
        """Number of positions in the largest receptive field."""
        largest = (self.last - self.first).max(initial=-1.0)
        return int(largest) + 1 if math.isfinite(largest) else 0

    @property
    def same(self) -> bool:
        """Whether all units have the same receptive field."""
        return bool(self.first.min() == self.first.max() and self.last.min() == self.last.max())

    @property
    def center(self) -> float:
        """The middle of the receptive field of the first unit that depends on the input."""
        seeing = np.isfinite(self.first)
        return float((self.first[seeing][0] + self.last[seeing][0]) / 2) if seeing.any() else 0.0


Fields = tuple[Seen, ...]
"""One `Seen` for each axis of the input."""


def input_fields(shape: Shape) -> Fields:
    """Fields of the input itself, (N, C, *spatial), or (N, F) of a table, whose only axis is its features."""
    found = []
    for dim in range(2, len(shape)) if len(shape) > 2 else range(1, 2):
        sides = [1] * len(shape)
        sides[dim] = shape[dim]
        at = np.arange(shape[dim], dtype=np.float64).reshape(sides)
        found.append(Seen(at, at, 1.0, dim))
    return tuple(found)


def union(fields: Iterable[Fields], ndim: int) -> Fields:
    """Fields of a result that is computed position by position from several tensors, broadcast to `ndim` dimensions."""
    return tuple(_union([_aligned(seen, ndim) for seen in axis]) for axis in zip(*fields, strict=True))


def _aligned(seen: Seen, ndim: int) -> Seen:
    missing = ndim - seen.ndim
    if missing <= 0:
        return seen
    sides = (1,) * missing + seen.lo.shape
    dim = None if seen.dim is None else seen.dim + missing
    return Seen(seen.lo.reshape(sides), seen.hi.reshape(sides), seen.jump, dim, seen.period)


def _union(parts: list[Seen]) -> Seen:
    first = parts[0]
    if all(
        part.first is first.first and part.last is first.last and part.flattened == first.flattened for part in parts
    ):
        return first
    lo, hi = first.lo, first.hi
    for part in parts[1:]:
        lo, hi = np.minimum(lo, part.lo), np.maximum(hi, part.hi)
    # After a gate, all positions of a map have the same field. Without a side of their own, windows do not widen it by
    # the padding at the borders.
    for dim in range(lo.ndim):
        ends = lo[(slice(None),) * dim + (slice(1),)], hi[(slice(None),) * dim + (slice(1),)]
        if bool((lo == ends[0]).all() and (hi == ends[1]).all()):
            lo, hi = ends
    guide = next((part for part in parts if part.dim is not None), first)
    return Seen(lo, hi, guide.jump, guide.dim, math.lcm(*(part.period for part in parts)))


def merged(fields: Fields, dims: Sequence[int]) -> Fields:
    """Fields where each number depends on all numbers along `dims` and the shape stays (softmax, normalization)."""
    return tuple(_merged(seen, tuple(dims)) for seen in fields)


def _merged(seen: Seen, axes: tuple[int, ...]) -> Seen:
    if seen.flattened is not None:
        sides = seen.flattened[1]
        if {dim for dim, side in enumerate(sides) if side > 1} <= {dim % len(sides) for dim in axes}:
            first, last = (np.full((1,) * len(sides), end) for end in (seen.first.min(), seen.last.max()))
            return Seen(first, last, seen.jump, seen.dim, seen.period)
    lo, hi = seen.lo.min(axis=axes, keepdims=True), seen.hi.max(axis=axes, keepdims=True)
    return Seen(lo, hi, seen.jump, seen.dim, seen.period)


def reduced(fields: Fields, dims: Sequence[int], keep: bool) -> Fields:
    """Fields after a reduction over `dims` (a sum, a mean); the dimensions stay with a side of 1 if `keep`."""
    gone = set(dims)
    found = []
    for seen in merged(fields, dims):
        dim = None if seen.dim in gone else seen.dim
        lo, hi = seen.lo, seen.hi
        if not keep:
            lo, hi = lo.squeeze(tuple(gone)), hi.squeeze(tuple(gone))
            dim = None if dim is None else dim - sum(other < dim for other in gone)
        found.append(Seen(lo, hi, seen.jump if dim is not None else 0.0, dim, seen.period))
    return tuple(found)


def everything(fields: Iterable[Fields], ndim: int) -> Fields:
    """Fields where all numbers depend on everything that any input depends on: the upper bound for an operation without
    a rule."""
    whole = [reduced(field, range(field[0].ndim if field else 0), keep=False) for field in fields]
    return union(whole, ndim)


def windowed(fields: Fields, dim: int, length: int, index: Index, scale: float, there: Index | None = None) -> Fields:
    """Fields after windows along `dim`, which has `length` positions.

    Output o is computed from the positions `index[o]`, or only from those where `there` is true; positions outside of
    the map are padding. The distance between the fields of neighbors grows by the factor `scale`.
    """
    return tuple(_windowed(seen, dim, length, index, scale, there) for seen in fields)


def _windowed(seen: Seen, dim: int, length: int, index: Index, scale: float, there: Index | None) -> Seen:
    along = seen.dim == dim
    jump = seen.jump * scale if along else seen.jump
    if seen.lo.shape[dim] == 1 and not (along and length == 1):
        return replace(seen, jump=jump)
    inside = index.clip(0, length - 1)
    period = seen.period
    if along and 1 < period <= length:  # the pattern repeats beyond the ends
        outside = index - inside
        inside = index - np.sign(outside) * -(-abs(outside) // period) * period
    # Fields are whole positions, even where neighbors are half a position apart.
    beyond = np.rint((index - inside) * (seen.jump if along else 0.0)).reshape(
        (1,) * dim + index.shape + (1,) * (seen.lo.ndim - dim - 1)
    )
    absent = None if there is None else np.where(there, 0.0, np.inf).reshape(beyond.shape)
    lo, hi = np.take(seen.lo, inside, axis=dim) + beyond, np.take(seen.hi, inside, axis=dim) + beyond
    if absent is not None:
        lo, hi = lo + absent, hi - absent
    if along:
        step = Fraction(scale).limit_denominator(4096)
        period *= step.denominator
        period //= math.gcd(period, step.numerator)
    return Seen(lo.min(axis=dim + 1), hi.max(axis=dim + 1), jump, seen.dim, period)


def in_order(seen: Seen, dim: int) -> bool:
    """Whether the first and the last input position never decrease along `dim`."""
    along = [np.moveaxis(ends, dim, 0) for ends in (seen.lo, seen.hi)]
    return seen.jump >= 0 and all(bool((ends[1:] >= ends[:-1]).all()) for ends in along)


def sliding(outputs: int, kernel: int, stride: int, before: int, dilation: int) -> Index:
    """The input positions of each window of a convolution or pooling, (outputs, kernel)."""
    first: Index = np.arange(outputs, dtype=np.int64)[:, None] * stride - before
    return first + np.arange(kernel, dtype=np.int64) * dilation


def spreading(outputs: int, kernel: int, stride: int, before: int, dilation: int) -> tuple[Index, Index]:
    """For each output of a transposed convolution and each tap, the input position that contributes, and whether there
    is one: taps that fall between the input positions contribute nothing."""
    offset = np.arange(outputs, dtype=np.int64)[:, None] + before - np.arange(kernel, dtype=np.int64) * dilation
    return offset // stride, offset % stride == 0


def adapting(outputs: int, length: int) -> Index:
    """The input positions of each window of an adaptive pooling; shorter windows repeat their last position."""
    o: Index = np.arange(outputs, dtype=np.int64)[:, None]
    first, end = o * length // outputs, -((-(o + 1) * length) // outputs)
    most = int((end - first).max(initial=1))
    positions: Index = np.minimum(first + np.arange(most, dtype=np.int64), end - 1)
    return positions


def permuted(fields: Fields, order: Sequence[int]) -> Fields:
    """Fields after a permutation of the dimensions."""
    place = {old: new for new, old in enumerate(order)}
    return tuple(
        Seen(s.lo.transpose(order), s.hi.transpose(order), s.jump, None if s.dim is None else place[s.dim], s.period)
        for s in fields
    )


def sliced(fields: Fields, dim: int, start: int, stop: int, step: int) -> Fields:
    """Fields of a slice along `dim`."""
    cut = (slice(None),) * dim + (slice(start, stop, step),)
    found = []
    for seen in fields:
        jump = seen.jump * step if seen.dim == dim else seen.jump
        varies = seen.lo.shape[dim] > 1
        found.append(Seen(seen.lo[cut], seen.hi[cut], jump, seen.dim) if varies else replace(seen, jump=jump))
    return tuple(found)


def joined(parts: Sequence[Fields], lengths: Sequence[int], dim: int) -> Fields:
    """Fields of a concatenation along `dim`. If `dim` runs along no input axis (channels), all numbers get the union of
    the fields."""
    found = []
    for axis in zip(*parts, strict=True):
        if all(seen.lo.shape[dim] == 1 and seen.dim != dim for seen in axis):
            found.append(_union(list(axis)))
            continue
        sides = np.broadcast_shapes(*(without(seen.lo.shape, dim) for seen in axis))
        full = [(*sides[:dim], length, *sides[dim + 1 :]) for length in lengths]
        lo = np.concatenate([np.broadcast_to(s.lo, f) for s, f in zip(axis, full, strict=True)], axis=dim)
        hi = np.concatenate([np.broadcast_to(s.hi, f) for s, f in zip(axis, full, strict=True)], axis=dim)
        guide = next((seen for seen in axis if seen.dim is not None), axis[0])
        found.append(Seen(lo, hi, guide.jump, guide.dim))
    return tuple(found)


def without(shape: Shape, dim: int) -> Shape:
    """The shape with a side of 1 at `dim`."""
    return (*shape[:dim], 1, *shape[dim + 1 :])


def unseen(axes: int, ndim: int) -> Fields:
    """Fields of numbers that do not depend on the input: weights, constants."""
    nothing = np.full((1,) * ndim, np.inf)
    return (Seen(nothing, -nothing, 0.0, None),) * axes


Rule = Callable[[Operation, list[Fields]], Any]
"""From the fields of an operation's inputs to those of its results: one `Fields` for all results, or a list with one
for each; None where the results do not depend on the input."""

_KEY = "_striate_fields"


def set_fields(tensor: torch.Tensor, fields: Fields | None) -> None:
    """Attach the fields to a tensor; None where its numbers do not depend on the input."""
    tensor.__dict__[_KEY] = fields


def get_fields(tensor: torch.Tensor) -> Fields | None:
    """The fields attached to a tensor; None where its numbers do not depend on the input."""
    fields: Fields | None = tensor.__dict__.get(_KEY)
    return fields


def forget_fields(tensor: torch.Tensor) -> None:
    """Remove the fields from a tensor whose numbers no longer depend on the input."""
    tensor.__dict__.pop(_KEY, None)
