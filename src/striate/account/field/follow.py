"""Receptive fields through a network, one operation of torch after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from striate.account.field import intervals
from striate.account.field.intervals import Fields
from striate.account.field.reshaped import reshaped
from striate.account.field.window import CONVOLUTIONS, POOLS, Window, read_window
from striate.account.observing.operation import Operation, dims_of, is_pointwise, short_name

_KEY = "_striate_fields"
_Result = Fields | list[Fields]


def set_fields(tensor: torch.Tensor, fields: Fields) -> None:
    """Note what the numbers of a tensor see."""
    tensor.__dict__[_KEY] = fields


def get_fields(tensor: torch.Tensor) -> Fields | None:
    """What the numbers of a tensor see; None where they do not depend on the input."""
    fields: Fields | None = tensor.__dict__.get(_KEY)
    return fields


def has_rule(func: Any) -> bool:
    """Whether it is known here what an operation does to receptive fields."""
    return short_name(func) in _RULES


def follow(operation: Operation, axes: int) -> None:
    """Note what the results of an operation see, of an input with `axes` axes."""
    known = [get_fields(tensor) for tensor in operation.inputs()]
    outputs = operation.outputs()
    if not outputs or not any(fields is not None for fields in known):
        if operation.name in ("copy", "fill", "zero") and outputs:
            outputs[0].__dict__.pop(_KEY, None)
        return
    rule = _RULES.get(operation.name)
    if rule is None:
        rule = _pointwise if is_pointwise(operation) else _anything
    found = rule(operation, [get_fields(t) or intervals.unseen(axes, t.ndim) for t in operation.inputs()])
    for tensor, fields in zip(outputs, found if isinstance(found, list) else [found] * len(outputs), strict=True):
        set_fields(tensor, fields)


def follow_padding(x: torch.Tensor, out: torch.Tensor, pads: Sequence[int]) -> None:
    """`out` is x with `pads` (of torch.nn.functional.pad: last dimension first) around it, of whatever values."""
    fields = get_fields(x)
    if fields is not None:
        set_fields(out, _padded(fields, tuple(x.shape), pads))


def follow_window(x: torch.Tensor, out: torch.Tensor, window: Window) -> None:
    """`out` is computed from windows of x, whatever operations did it."""
    fields = get_fields(x)
    if fields is not None:
        set_fields(out, _through(fields, window, x.ndim, out.ndim))


def _through(fields: Fields, window: Window, ndim: int, out_ndim: int) -> Fields:
    axes = len(window.sizes)
    if window.function in CONVOLUTIONS or not window.function:
        channel = ndim - axes - 1
        fields = intervals.merged(fields, [channel])
    for axis, length in enumerate(window.sizes):
        index, there = window.index(axis)
        scale = 1 / window.stride[axis] if window.transposed else window.stride[axis]
        fields = intervals.windowed(fields, ndim - axes + axis, length, index, scale, there)
    assert ndim == out_ndim
    return fields


def _window(operation: Operation, given: list[Fields]) -> Fields:
    window = read_window(operation)
    assert window is not None
    x = next(operation.inputs())
    return _through(given[0], window, x.ndim, operation.outputs()[0].ndim)


def _adaptive(operation: Operation, given: list[Fields]) -> Fields:
    x, out = next(operation.inputs()), operation.outputs()[0]
    fields = given[0]
    for dim in range(x.ndim - len(operation.args[1]), x.ndim):
        outputs, length = out.shape[dim], x.shape[dim]
        fields = intervals.windowed(fields, dim, length, intervals.adapting(outputs, length), length / outputs)
    return fields


def _upsampled(operation: Operation, given: list[Fields]) -> Fields:
    x, out = next(operation.inputs()), operation.outputs()[0]
    corners, fields = bool(operation.get("align_corners", False)), given[0]
    for dim in range(2, x.ndim):
        outputs, length = out.shape[dim], x.shape[dim]
        at = np.arange(outputs, dtype=np.float64)
        if "nearest" in operation.name:
            at = at + 0.5 if "exact" in operation.name else at
            index = np.floor(at * length / outputs)[:, None]
        else:
            scale = (length - 1) / max(1, outputs - 1) if corners else length / outputs
            at = at * scale if corners else (at + 0.5) * scale - 0.5
            reach = 2 if "bicubic" in operation.name else 1
            if operation.name.endswith("_aa"):
                reach = math.ceil(reach * max(1.0, scale))
            index = np.floor(at)[:, None] + np.arange(1 - reach, reach + 1)
            # A neighbor with weight 0 is not seen: a position that falls on the grid needs no other.
            index = np.where((at % 1 == 0)[:, None] & (reach == 1), np.floor(at)[:, None], index)
        inside = index.clip(0, length - 1).astype(np.int64)
        fields = intervals.windowed(fields, dim, length, inside, length / outputs)
    return fields


def _padded(fields: Fields, shape: Sequence[int], pads: Sequence[int]) -> Fields:
    for pair in range(len(pads) // 2):
        dim, before, after = len(shape) - 1 - pair, pads[2 * pair], pads[2 * pair + 1]
        if before or after:
            index = np.arange(-before, shape[dim] + after, dtype=np.int64)[:, None]
            fields = intervals.windowed(fields, dim, shape[dim], index, 1.0)
    return fields


def _pad(operation: Operation, given: list[Fields]) -> Fields:
    pads = operation.get("pad", None) or operation.get("padding")
    return _padded(given[0], tuple(next(operation.inputs()).shape), pads)


def _pointwise(operation: Operation, given: list[Fields]) -> Fields:
    return intervals.union(given, operation.outputs()[0].ndim)


def _anything(operation: Operation, given: list[Fields]) -> _Result:
    return [intervals.everything(given, out.ndim) for out in operation.outputs()]


def _same(_operation: Operation, given: list[Fields]) -> Fields:
    return given[0]


def _reduction(operation: Operation, given: list[Fields]) -> Fields:
    if len(given) > 1:  # the larger of two
        return _pointwise(operation, given)
    ndim, out = next(operation.inputs()).ndim, operation.outputs()[0]
    return intervals.reduced(given[0], dims_of(operation), keep=ndim == out.ndim)


def _along(operation: Operation, given: list[Fields]) -> Fields:
    return intervals.merged(given[0], dims_of(operation))


def _layer_norm(operation: Operation, given: list[Fields]) -> _Result:
    x = next(operation.inputs())
    inner = range(x.ndim - len(operation.args[1]), x.ndim)
    return _normalized(operation, intervals.merged(given[0], tuple(inner)))


def _group_norm(operation: Operation, given: list[Fields]) -> _Result:
    return _normalized(operation, intervals.merged(given[0], tuple(range(1, next(operation.inputs()).ndim))))


def _batch_norm(operation: Operation, given: list[Fields]) -> _Result:
    ndim = next(operation.inputs()).ndim
    if not operation.get("training", False):
        return _normalized(operation, given[0])
    return _normalized(operation, intervals.merged(given[0], (0, *range(2, ndim))))


def _normalized(operation: Operation, fields: Fields) -> _Result:
    """The result, and beside it the statistics that the operation returns too."""
    first, *others = operation.outputs()
    assert first.ndim == (fields[0].lo.ndim if fields else first.ndim)
    return [fields, *(intervals.everything([fields], other.ndim) for other in others)]


def _product(operation: Operation, given: list[Fields]) -> Fields:
    """A matrix product (…, n, k) by (…, k, m), with what is added to it."""
    *added, left, right = given
    ndim = operation.outputs()[0].ndim
    rows = intervals.merged(left, [left[0].lo.ndim - 1])
    if right[0].lo.ndim == 1:  # a vector
        rows, columns = (
            intervals.reduced(left, [left[0].lo.ndim - 1], keep=False),
            intervals.reduced(right, [0], keep=False),
        )
    else:
        rows = tuple(_not_along(seen, ndim - 1) for seen in rows)
        merged = intervals.merged(right, [right[0].lo.ndim - 2])
        columns = tuple(_not_along(seen, ndim - 2) for seen in merged)
    return intervals.union([rows, columns, *added], ndim)


def _not_along(seen: intervals.Seen, dim: int) -> intervals.Seen:
    return intervals.Seen(seen.lo, seen.hi, 0.0, None) if seen.dim == dim else seen


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
    return tuple(intervals.Seen(np.flip(s.lo, dims), np.flip(s.hi, dims), s.jump, s.dim) for s in given[0])


def _shuffled(operation: Operation, given: list[Fields]) -> Fields:
    """Channels to finer positions: each of them sees what the position that it was cut from saw."""
    x, factor = next(operation.inputs()), operation.args[1]
    fields = intervals.merged(given[0], [x.ndim - 3])
    for dim in (x.ndim - 2, x.ndim - 1):
        index = np.arange(x.shape[dim] * factor, dtype=np.int64)[:, None] // factor
        fields = intervals.windowed(fields, dim, x.shape[dim], index, 1 / factor)
    return fields


def _unshuffled(operation: Operation, given: list[Fields]) -> Fields:
    """Positions to channels; taken together, the channels of a position see all that was joined in it."""
    x, factor = next(operation.inputs()), operation.args[1]
    fields = intervals.merged(given[0], [x.ndim - 3])
    for dim in (x.ndim - 2, x.ndim - 1):
        fields = intervals.windowed(
            fields, dim, x.shape[dim], intervals.sliding(x.shape[dim] // factor, factor, factor, 0, 1), factor
        )
    return fields


def _copied(operation: Operation, given: list[Fields]) -> Fields:
    """Numbers written into another tensor; where that is a view of a larger one, all of it is taken to see them."""
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


_Rule = Callable[[Operation, list[Fields]], Any]
_BY_RULE: tuple[tuple[_Rule, str], ...] = (
    (_window, " ".join((*sorted(CONVOLUTIONS), *sorted(POOLS)))),
    (_adaptive, "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"),
    (_upsampled, "upsample_nearest1d upsample_nearest2d upsample_nearest3d"),
    (_upsampled, "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d"),
    (_upsampled, "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d"),
    (_upsampled, "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"),
    (_pad, "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d"),
    (_pad, "replication_pad1d replication_pad2d replication_pad3d"),
    (_same, "alias detach clone _to_copy lift_fresh contiguous native_dropout"),
    (_reduction, "mean sum amax amin max min argmax argmin var std var_mean std_mean prod any all"),
    (_reduction, "linalg_vector_norm norm logsumexp nansum median count_nonzero"),
    (_along, "_softmax _log_softmax _safe_softmax cumsum cumprod logcumsumexp cummax cummin sort topk"),
    (_layer_norm, "native_layer_norm _fused_rms_norm"),
    (_group_norm, "native_group_norm"),
    (_batch_norm, "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"),
    (_batch_norm, "cudnn_batch_norm _batch_norm_with_update _batch_norm_no_update"),
    (_product, "mm addmm bmm baddbmm mv addmv dot vdot"),
    (_viewed, "view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten"),
    (_expanded, "expand"),
    (_permuted, "permute transpose t"),
    (_sliced, "slice"),
    (_selected, "select"),
    (_split, "split split_with_sizes unbind chunk unsafe_split unsafe_chunk"),
    (_unfolded, "unfold"),
    (_joined, "cat stack"),
    (_flipped, "flip"),
    (_shuffled, "pixel_shuffle"),
    (_unshuffled, "pixel_unshuffle"),
    (_copied, "copy"),
    (_embedded, "embedding"),
)
_RULES: dict[str, _Rule] = {name: rule for rule, names in _BY_RULE for name in names.split()}
