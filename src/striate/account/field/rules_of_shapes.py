"""Receptive fields through operations that move numbers: views in another shape, slices, joins, copies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from striate.account.field import intervals
from striate.account.field.intervals import (
    Array,
    Fields,
    Rule,
    Seen,
    Shape,
    everything,
    get_fields,
    set_fields,
    without,
)
from striate.observe.torch_calls import Operation, dims_of

Group = tuple[int, int, int, int]
"""Dimensions `[i, j)` of the old shape hold the same numbers as `[k, l)` of the new one."""


def reshaped(fields: Fields, old: Shape, new: Shape) -> Fields:
    """Fields of the same numbers, in row-major order, in another shape. Only dimensions that are split or merged and
    along which fields differ are expanded."""
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
    lo, hi = seen.lo, seen.hi
    split = [dim for _, _, k, m in groups if m - k > 1 for dim in range(k, m)]
    if not split and tuple(wide) != lo.shape:
        home, share = _home(seen, fields, old, new, groups, tuple(sides))
        written_out = tuple(wide), tuple(sides)
        return Seen(lo, hi, seen.jump if home is None else seen.jump * share, home, flattened=written_out)
    lo, hi = (np.broadcast_to(part, wide).reshape(sides) for part in (lo, hi))
    for dim in split:
        lo, hi = _compressed(lo, hi, dim)
    home, share = _home(seen, fields, old, new, groups, lo.shape)
    if home is None and seen.jump:
        return _parted(lo, hi, seen.jump)
    return Seen(lo, hi, seen.jump * share, home)


def _parted(lo: Array, hi: Array, jump: float) -> Seen:
    """A `Seen` that runs along a dimension where fields differ along this dimension alone, at equal distances; one
    without a dimension where positions are mixed with channels. The latter keeps its jump, as a later view may separate
    positions and channels again."""
    varying = [dim for dim, side in enumerate(lo.shape) if side > 1]
    if len(varying) == 1 and lo.shape == hi.shape:
        steps = np.unique(np.diff(np.concatenate([lo.ravel()[:, None], hi.ravel()[:, None]], axis=1), axis=0))
        if len(steps) == 1:
            return Seen(lo, hi, float(steps[0]), varying[0])
    return Seen(lo, hi, jump, None)


def _compressed(lo: Array, hi: Array, dim: int) -> tuple[Array, Array]:
    """The arrays, reduced to a side of 1 along `dim` where nothing differs along it."""
    if lo.shape[dim] == 1 or not all((part == part.take([0], axis=dim)).all() for part in (lo, hi)):
        return lo, hi
    return lo.take([0], axis=dim), hi.take([0], axis=dim)


def _home(
    seen: Seen, fields: Fields, old: Shape, new: Shape, groups: list[Group], sides: Shape
) -> tuple[int | None, int]:
    """The dimension of the new shape that runs along the axis, if any does, and how many old steps one new step is."""
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
    varying = [dim for dim in outer if sides[dim] > 1]
    if not varying:
        return None, 1
    return varying[0], math.prod(new[varying[0] + 1 : m])


def _viewed(operation: Operation, given: list[Fields]) -> Fields:
    return reshaped(given[0], tuple(next(operation.inputs()).shape), tuple(operation.outputs()[0].shape))


def _expanded(operation: Operation, given: list[Fields]) -> Fields:
    return intervals.union([given[0]], operation.outputs()[0].ndim)


def _permuted(operation: Operation, given: list[Fields]) -> Fields:
    x = next(operation.inputs())
    if operation.name == "permute":
        order = [dim % x.ndim for dim in operation.args[1]]
    else:
        order = list(range(x.ndim))
        i, j = (0, min(1, x.ndim - 1)) if operation.name == "t" else (operation.args[1], operation.args[2])
        order[i], order[j] = order[j], order[i]
    return intervals.permuted(given[0], order)


def _sliced(operation: Operation, given: list[Fields]) -> Fields:
    x, dim = next(operation.inputs()), operation.get("dim", 0)
    dim %= x.ndim
    start, end, step = (operation.get(name) for name in ("start", "end", "step"))
    start, end, step = slice(start, end, step).indices(x.shape[dim])
    return intervals.sliced(given[0], dim, start, end, step)


def _selected(operation: Operation, given: list[Fields]) -> Fields:
    x = next(operation.inputs())
    dim, index = operation.get("dim", 0) % x.ndim, operation.get("index")
    index %= x.shape[dim]
    return intervals.reduced(intervals.sliced(given[0], dim, index, index + 1, 1), [dim], keep=False)


def _split(operation: Operation, given: list[Fields]) -> list[Fields]:
    x, dim = next(operation.inputs()), operation.get("dim", 0)
    dim %= x.ndim
    found, start = [], 0
    for part in operation.outputs():
        if operation.name == "unbind":
            one = intervals.sliced(given[0], dim, start, start + 1, 1)
            found.append(intervals.reduced(one, [dim], keep=False))
            start += 1
        else:
            found.append(intervals.sliced(given[0], dim, start, start + part.shape[dim], 1))
            start += part.shape[dim]
    return found


def _unfolded(operation: Operation, given: list[Fields]) -> Fields:
    x, out = next(operation.inputs()), operation.outputs()[0]
    dim, size, step = operation.get("dimension") % x.ndim, operation.get("size"), operation.get("step")
    found = []
    for seen in given[0]:
        sides = []
        for part in (seen.lo, seen.hi):
            if part.shape[dim] == 1:
                sides.append(part[..., None])
            else:
                windows = np.lib.stride_tricks.sliding_window_view(part, size, axis=dim)
                sides.append(windows[(slice(None),) * dim + (slice(None, None, step),)])
        jump = seen.jump * step if seen.dim == dim else seen.jump
        found.append(intervals.Seen(sides[0], sides[1], jump, seen.dim))
    assert out.ndim == x.ndim + 1
    return tuple(found)


def _joined(operation: Operation, given: list[Fields]) -> Fields:
    tensors = list(operation.inputs())
    # torch lets an empty tensor of one dimension pass.
    kept = [(f, t) for f, t in zip(given, tensors, strict=True) if t.numel()]
    dim, out = operation.get("dim", 0), operation.outputs()[0]
    parts = [fields for fields, _ in kept]
    if operation.name == "stack":
        dim %= out.ndim
        shape = (*out.shape[:dim], 1, *out.shape[dim + 1 :])
        parts = [reshaped(fields, tuple(t.shape), shape) for fields, t in kept]
        return intervals.joined(parts, [1] * len(parts), dim)
    dim %= out.ndim
    return intervals.joined(parts, [t.shape[dim] for _, t in kept], dim)


def _flipped(operation: Operation, given: list[Fields]) -> Fields:
    dims = tuple(dim % next(operation.inputs()).ndim for dim in operation.args[1])
    # Fields of neighbors then follow each other in reverse, also beyond the border.
    return tuple(
        intervals.Seen(np.flip(s.lo, dims), np.flip(s.hi, dims), -s.jump if s.dim in dims else s.jump, s.dim, s.period)
        for s in given[0]
    )


def _repeated(operation: Operation, given: list[Fields]) -> Fields:
    out, repeats = operation.outputs()[0], operation.args[1]
    fields = intervals.union([given[0]], out.ndim)
    for dim, (times, side) in enumerate(zip(repeats, out.shape, strict=True)):
        if times > 1:
            fields = intervals.joined([fields] * times, [side // times] * times, dim)
    return fields


def _rolled(operation: Operation, given: list[Fields]) -> Fields:
    x, fields = next(operation.inputs()), given[0]
    if not operation.get("dims"):
        return everything([fields], x.ndim)
    for shift, dim in zip(operation.get("shifts"), operation.get("dims"), strict=True):
        side = x.shape[dim]
        index = (np.arange(side, dtype=np.int64)[:, None] - shift) % side
        fields = intervals.windowed(fields, dim % x.ndim, side, index, 1.0)
    return fields


def _picked(operation: Operation, given: list[Fields]) -> Fields:
    """Positions along one dimension, at indices known only while the network runs: a result may come from any."""
    return intervals.merged(given[0], dims_of(operation))


def _indexed(operation: Operation, given: list[Fields]) -> Fields:
    """`x[:, [0, 2]]`: as `_picked`, where there is one list of indices."""
    indices, ndim = operation.args[1], operation.outputs()[0].ndim
    dims = [dim for dim, index in enumerate(indices) if index is not None]
    if len(dims) > 1 or indices[dims[0]].ndim > 1:
        return everything(given, ndim)
    return intervals.union([intervals.merged(given[0], dims), everything(given[1:], ndim)], ndim)


def _picked_at_each_place(operation: Operation, given: list[Fields]) -> Fields:
    """As `_picked`, with separate indices at each position of the other dimensions."""
    out, dims = operation.outputs()[0], dims_of(operation)
    if len({without(tuple(tensor.shape), dims[0]) for tensor in operation.inputs()}) > 1:
        return everything(given, out.ndim)
    return intervals.union([intervals.merged(fields, dims) for fields in given], out.ndim)


def _gated(operation: Operation, given: list[Fields]) -> Fields:
    """The first half along a dimension, multiplied elementwise by a gate computed from the second half."""
    out, (dim,) = operation.outputs()[0], dims_of(operation)
    half = out.shape[dim]
    return intervals.union([intervals.sliced(given[0], dim, at, at + half, 1) for at in (0, half)], out.ndim)


def _drawn(_operation: Operation, _given: list[Fields]) -> None:
    """Constants and random numbers, which take only shape and type from a tensor."""


def _copied(operation: Operation, given: list[Fields]) -> Fields:
    """Numbers written into another tensor. If that is a view of a larger tensor, the larger tensor gets the fields as a
    whole."""
    target, source = operation.args[0], given[1]
    base = target._base
    if base is not None:
        axes = len(source)
        before = get_fields(base) or intervals.unseen(axes, base.ndim)
        set_fields(base, intervals.union([before, intervals.everything([source], base.ndim)], base.ndim))
    return intervals.union([source], target.ndim)


def _embedded(operation: Operation, given: list[Fields]) -> Fields:
    indices = operation.args[1]
    return reshaped(given[1], tuple(indices.shape), (*indices.shape, 1))


RULES: tuple[tuple[Rule, str], ...] = (
    (_viewed, "view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten"),
    (_expanded, "expand"),
    (_permuted, "permute transpose t"),
    (_sliced, "slice"),
    (_selected, "select"),
    (_split, "split split_with_sizes unbind chunk unsafe_split unsafe_chunk"),
    (_unfolded, "unfold"),
    (_joined, "cat stack"),
    (_flipped, "flip"),
    (_repeated, "repeat"),
    (_rolled, "roll"),
    (_picked, "index_select"),
    (_indexed, "index"),
    (_picked_at_each_place, "gather scatter"),
    (_gated, "glu"),
    (_drawn, "empty_like zeros_like ones_like full_like rand_like randn_like randint_like"),
    (_drawn, "new_empty new_zeros new_ones new_full normal uniform exponential"),
    (_copied, "copy"),
    (_embedded, "embedding"),
)
