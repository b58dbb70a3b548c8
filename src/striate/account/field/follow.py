"""Receptive fields through a network, one operation of torch after the other.

Also here: the rules for operations that compute numbers, elementwise, over an axis, or as matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from striate.account.field import intervals, rules_of_shapes, rules_of_windows
from striate.account.field.intervals import Fields, Rule, forget_fields, get_fields, set_fields
from striate.account.field.window import Window
from striate.observe.torch_calls import Operation, dims_of, is_pointwise, short_name


def pointwise(operation: Operation, given: list[Fields]) -> Fields:
    """The rule of elementwise operations: the union of the fields at the same position, with broadcasting."""
    return intervals.union(given, operation.outputs()[0].ndim)


def anything(operation: Operation, given: list[Fields]) -> list[Fields]:
    """The rule of unknown operations: each output depends on everything that the inputs depend on."""
    return [intervals.everything(given, out.ndim) for out in operation.outputs()]


def _same(_operation: Operation, given: list[Fields]) -> Fields:
    return given[0]


def _reduction(operation: Operation, given: list[Fields]) -> Fields:
    if len(given) > 1:  # the larger of two
        return pointwise(operation, given)
    ndim, out = next(operation.inputs()).ndim, operation.outputs()[0]
    return intervals.reduced(given[0], dims_of(operation), keep=ndim == out.ndim)


def _along(operation: Operation, given: list[Fields]) -> Fields:
    return intervals.merged(given[0], dims_of(operation))


def _layer_norm(operation: Operation, given: list[Fields]) -> list[Fields]:
    x = next(operation.inputs())
    inner = range(x.ndim - len(operation.args[1]), x.ndim)
    return _normalized(operation, intervals.merged(given[0], tuple(inner)))


def _group_norm(operation: Operation, given: list[Fields]) -> list[Fields]:
    return _normalized(operation, intervals.merged(given[0], tuple(range(1, next(operation.inputs()).ndim))))


def _batch_norm(operation: Operation, given: list[Fields]) -> list[Fields]:
    ndim = next(operation.inputs()).ndim
    if not operation.get("training", False):
        return _normalized(operation, given[0])
    return _normalized(operation, intervals.merged(given[0], (0, *range(2, ndim))))


def _normalized(operation: Operation, fields: Fields) -> list[Fields]:
    """Fields of the result, and of the statistics that the operation also returns."""
    first, *others = operation.outputs()
    assert first.ndim == (fields[0].ndim if fields else first.ndim)
    return [fields, *(intervals.everything([fields], other.ndim) for other in others)]


def _product(operation: Operation, given: list[Fields]) -> Fields:
    """A matrix product (…, n, k) by (…, k, m), and the bias that is added to it."""
    *added, left, right = given
    ndim = operation.outputs()[0].ndim
    rows = intervals.merged(left, [left[0].ndim - 1])
    if right[0].ndim == 1:  # a vector
        rows, columns = (
            intervals.reduced(left, [left[0].ndim - 1], keep=False),
            intervals.reduced(right, [0], keep=False),
        )
    else:
        rows = tuple(_not_along(seen, ndim - 1) for seen in rows)
        merged = intervals.merged(right, [right[0].ndim - 2])
        columns = tuple(_not_along(seen, ndim - 2) for seen in merged)
    return intervals.union([rows, columns, *added], ndim)


def _bilinear(_operation: Operation, given: list[Fields]) -> Fields:
    """Each output of a bilinear layer (N, features) depends on all features of both inputs of its sample."""
    left, weight, right = given
    sides = [tuple(_not_along(seen, 1) for seen in intervals.merged(side, [1])) for side in (left, right)]
    return intervals.union([*sides, intervals.everything([weight], 2)], 2)


def _not_along(seen: intervals.Seen, dim: int) -> intervals.Seen:
    return replace(seen, jump=0.0, dim=None, period=1) if seen.dim == dim else seen


SUM_RULES: tuple[tuple[Rule, str], ...] = (
    (_same, "alias detach clone _to_copy lift_fresh contiguous native_dropout index_fill"),
    (_reduction, "mean sum amax amin max min argmax argmin var std var_mean std_mean prod any all"),
    (_reduction, "linalg_vector_norm norm logsumexp nansum median count_nonzero"),
    (_along, "_softmax _log_softmax _safe_softmax cumsum cumprod logcumsumexp cummax cummin sort topk"),
    (_layer_norm, "native_layer_norm _fused_rms_norm"),
    (_group_norm, "native_group_norm"),
    (_batch_norm, "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"),
    (_batch_norm, "cudnn_batch_norm _batch_norm_with_update _batch_norm_no_update"),
    (_product, "mm addmm bmm baddbmm mv addmv dot vdot"),
    (_bilinear, "_trilinear"),
)


_RULES: dict[str, Rule] = {
    name: rule
    for table in (rules_of_windows.RULES, rules_of_shapes.RULES, SUM_RULES)
    for rule, names in table
    for name in names.split()
}


def has_rule(func: Any) -> bool:
    """Whether there is a rule for an operation."""
    return short_name(func) in _RULES


def follow(operation: Operation, axes: int) -> None:
    """Attach receptive fields to the results of an operation; `axes` is the number of spatial axes of the input."""
    known = [get_fields(tensor) for tensor in operation.inputs()]
    outputs = operation.outputs()
    if not outputs or not any(fields is not None for fields in known):
        if operation.name in ("copy", "fill", "zero") and outputs:
            forget_fields(outputs[0])
        return
    rule = _RULES.get(operation.name)
    if rule is None:
        rule = pointwise if is_pointwise(operation) else anything
    found = rule(operation, [get_fields(t) or intervals.unseen(axes, t.ndim) for t in operation.inputs()])
    for tensor, fields in zip(outputs, found if isinstance(found, list) else [found] * len(outputs), strict=True):
        set_fields(tensor, fields)


def follow_padding(x: torch.Tensor, out: torch.Tensor, pads: Sequence[int]) -> None:
    """Attach receptive fields to `out`, which is x padded by `pads` (as torch.nn.functional.pad takes them: last
    dimension first) with any values."""
    fields = get_fields(x)
    if fields is not None:
        set_fields(out, rules_of_windows.padded(fields, tuple(x.shape), pads))


def follow_window(x: torch.Tensor, out: torch.Tensor, window: Window) -> None:
    """Attach receptive fields to `out`, which is computed from windows of x, by whatever operations."""
    fields = get_fields(x)
    if fields is not None:
        set_fields(out, rules_of_windows.through(fields, window, x.ndim, out.ndim))
