"""Receptive fields through a network, one operation of torch after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from striate.account.field import intervals, rules_of_shapes, rules_of_sums, rules_of_windows
from striate.account.field.noted import Rule, forget_fields, get_fields, set_fields
from striate.account.field.window import Window
from striate.account.operation import Operation, is_pointwise, short_name

_RULES: dict[str, Rule] = {
    name: rule
    for table in (rules_of_windows.RULES, rules_of_shapes.RULES, rules_of_sums.RULES)
    for rule, names in table
    for name in names.split()
}


def has_rule(func: Any) -> bool:
    """Whether it is known here what an operation does to receptive fields."""
    return short_name(func) in _RULES


def follow(operation: Operation, axes: int) -> None:
    """Note what the results of an operation see, of an input with `axes` axes."""
    known = [get_fields(tensor) for tensor in operation.inputs()]
    outputs = operation.outputs()
    if not outputs or not any(fields is not None for fields in known):
        if operation.name in ("copy", "fill", "zero") and outputs:
            forget_fields(outputs[0])
        return
    rule = _RULES.get(operation.name)
    if rule is None:
        rule = rules_of_sums.pointwise if is_pointwise(operation) else rules_of_sums.anything
    found = rule(operation, [get_fields(t) or intervals.unseen(axes, t.ndim) for t in operation.inputs()])
    for tensor, fields in zip(outputs, found if isinstance(found, list) else [found] * len(outputs), strict=True):
        set_fields(tensor, fields)


def follow_padding(x: torch.Tensor, out: torch.Tensor, pads: Sequence[int]) -> None:
    """`out` is x with `pads` (of torch.nn.functional.pad: last dimension first) around it, of whatever values."""
    fields = get_fields(x)
    if fields is not None:
        set_fields(out, rules_of_windows.padded(fields, tuple(x.shape), pads))


def follow_window(x: torch.Tensor, out: torch.Tensor, window: Window) -> None:
    """`out` is computed from windows of x, whatever operations did it."""
    fields = get_fields(x)
    if fields is not None:
        set_fields(out, rules_of_windows.through(fields, window, x.ndim, out.ndim))
