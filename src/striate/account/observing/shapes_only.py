"""Output shapes of the most common operations, for tensors on the meta device.

torch computes them too, but in Python, and for some operations with its compiler, which takes a second to load.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from striate.layers.axis_windows import AxisWindows
from striate.observe.torch_calls import torch_operations

_ATEN = torch.ops.aten


def shapes_only() -> AbstractContextManager[None]:
    """While the body runs, networks on the meta device are built and run fast, by the shape rules of this module."""
    return torch_operations(_run)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    out = shape_rule(func, args, kwargs)
    return func(*args, **kwargs) if out is None else out


def shape_rule(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of an operation on tensors of the meta device; None where torch has to compute it."""
    rule = _RULES.get(func)
    return None if rule is None or not _plain(args) else rule(args, kwargs)


def _plain(args: tuple[Any, ...]) -> bool:
    """Whether the first argument is a real-valued tensor without numbers, or a list of such, alike in format."""
    tensors = args[0] if args and isinstance(args[0], list | tuple) else args[:1]
    first = tensors[0] if tensors else None
    return isinstance(first, torch.Tensor) and all(
        t.is_meta and t.is_floating_point() and t.dtype == first.dtype for t in tensors
    )


def _like(x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape) if x.is_contiguous() else torch.empty_like(x)


def _same(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    return _like(args[0])


def _empty(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    plain = all(kwargs.get(name) is None for name in ("dtype", "layout", "device", "memory_format"))
    return _like(args[0]) if plain else None


def _in_place(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    return args[0]


def _binary(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    x, y = args[0], args[1]
    if not isinstance(y, torch.Tensor):
        return _like(x) if isinstance(y, int | float) else None
    if not y.is_meta or y.dtype != x.dtype:
        return None
    if x.shape == y.shape and x.stride() == y.stride():
        return _like(x)
    try:
        shape = torch.broadcast_shapes(x.shape, y.shape)
    except RuntimeError:
        return None  # torch raises the error
    if shape == x.shape:
        return _like(x)
    return _like(y) if shape == y.shape else x.new_empty(shape)


def _mean(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, dims = args[0], args[1]
    keep = bool(args[2]) if len(args) > 2 else False
    if not dims or kwargs or not x.is_contiguous():
        return None
    gone = {dim % x.ndim for dim in dims if -x.ndim <= dim < x.ndim}
    if len(gone) < len(dims):
        return None
    sides = [1 if dim in gone else side for dim, side in enumerate(x.shape)]
    return x.new_empty(sides if keep else [side for dim, side in enumerate(sides) if dim not in gone])


def _cat(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    tensors, dim = args[0], args[1] if len(args) > 1 else 0
    first = tensors[0]
    if not -first.ndim <= dim < first.ndim or not all(t.is_contiguous() and t.ndim == first.ndim for t in tensors):
        return None
    dim %= first.ndim
    others = {(*t.shape[:dim], *t.shape[dim + 1 :]) for t in tensors}
    if len(others) > 1:
        return None
    return first.new_empty([*first.shape[:dim], sum(t.shape[dim] for t in tensors), *first.shape[dim + 1 :]])


def _addmm(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    added, left, right = args
    fitting = left.shape[1] == right.shape[0] and added.shape == right.shape[1:] and left.dtype == right.dtype
    return left.new_empty(left.shape[0], right.shape[1]) if fitting and not kwargs else None


def _convolution(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args
    axes = weight.ndim - 2
    known = not (transposed or kwargs) and x.ndim == axes + 2 and x.is_contiguous() and x.dtype == weight.dtype
    if not known or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        return None
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != x.dtype):
        return None
    each = (list(numbers) * (axes if len(numbers) == 1 else 1) for numbers in (stride, padding, padding, dilation))
    along = zip(x.shape[2:], weight.shape[2:], *each, strict=True)
    sides = [AxisWindows(*numbers).count for numbers in along]
    return x.new_empty([x.shape[0], weight.shape[0], *sides]) if min(sides) > 0 else None


def _pool(x: torch.Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> list[int] | None:
    if x.ndim != 4 or not x.is_contiguous() or not (len(kernel) == len(padding) == len(dilation) == 2):
        return None
    shape = list(x.shape[:2])
    for i, length in enumerate(x.shape[2:]):
        step = (stride or kernel)[i % len(stride or kernel)]
        side = AxisWindows(length, kernel[i], step, padding[i], padding[i], dilation[i], ceil).count
        if side < 1 or 2 * padding[i] > kernel[i]:
            return None
        shape.append(side)
    return shape


def _max_pool(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, kernel = args[:2]
    defaults: tuple[Any, ...] = (x, kernel, [], [0, 0], [1, 1], False)
    stride, padding, dilation, ceil = (*args, *defaults[len(args) :])[2:]
    shape = None if kwargs else _pool(x, kernel, stride, padding, dilation, ceil)
    return None if shape is None else (x.new_empty(shape), x.new_empty(shape, dtype=torch.int64))


def _avg_pool(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, kernel = args[:2]
    defaults: tuple[Any, ...] = (x, kernel, [], [0, 0], False)
    stride, padding, ceil = (*args, *defaults[len(args) :])[2:5]
    shape = None if kwargs else _pool(x, kernel, stride, padding, [1, 1], ceil)
    return None if shape is None else x.new_empty(shape)


def _layer_norm(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    x, inner = args[0], args[1]
    if tuple(x.shape[x.ndim - len(inner) :]) != tuple(inner):
        return None
    statistics = x.new_empty([*x.shape[: x.ndim - len(inner)], *(1 for _ in inner)])
    return _like(x), statistics, _like(statistics)


def _batch_norm(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    x, training = args[0], args[5]
    return None if training else (_like(x), x.new_empty(0), x.new_empty(0))


_Rule = Callable[[tuple[Any, ...], dict[str, Any]], Any]
_UNARY = (_ATEN.relu, _ATEN.tanh, _ATEN.gelu, _ATEN.leaky_relu, _ATEN.hardtanh, _ATEN.hardswish)
_RULES: dict[Any, _Rule] = {
    **{packet.default: _same for packet in _UNARY},
    **{packet.default: _in_place for packet in (_ATEN.normal_, _ATEN.uniform_)},
    **dict.fromkeys((_ATEN.bernoulli_.float, _ATEN.div_.Scalar), _in_place),  # as dropout does
    _ATEN.empty_like.default: _empty,
    **{packet.Tensor: _binary for packet in (_ATEN.add, _ATEN.sub, _ATEN.mul, _ATEN.div)},
    _ATEN.mean.dim: _mean,
    _ATEN.cat.default: _cat,
    _ATEN.max_pool2d_with_indices.default: _max_pool,
    _ATEN.avg_pool2d.default: _avg_pool,
    _ATEN.convolution.default: _convolution,
    _ATEN.addmm.default: _addmm,
    _ATEN.native_layer_norm.default: _layer_norm,
    _ATEN.native_batch_norm.default: _batch_norm,
}
