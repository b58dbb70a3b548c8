"""The output shape of each layer for an input shape (C, *spatial) or (F,), without the batch; Fault for a misfit."""

from __future__ import annotations

import math
from collections.abc import Callable

from striate.layers.axis_windows import AxisWindows, furthest_reach, same_padding
from striate.models.layer_strings.fault import Edit, Fault
from striate.models.layer_strings.spec import Layer
from striate.models.layer_strings.words import Value, show_value
from striate.wording import several, show_shape

Shape = tuple[int, ...]


def fit_layer(layer: Layer, shape: Shape) -> Shape:
    """The output shape of the layer; Fault, with the arithmetic, where it cannot take `shape`."""
    _check_claim(layer, shape)
    rule = _RULES.get(layer.word)
    return rule(layer, shape) if rule else shape


def _check_claim(layer: Layer, shape: Shape) -> None:
    """Raise Fault where pasted PyTorch code states another input shape than the actual one."""
    claim, count = layer.claim, len(shape) - 1
    if claim is None:
        return
    vector = layer.word == "bn" and claim.axes == 1 and not count  # BatchNorm1d takes both
    if claim.axes not in (None, count) and not vector:
        got = f"`{claim.name}` on an input of {show_shape(shape)}"
        raise _fault(layer, got, f"a map with {several(claim.axes or 0, 'spatial axis', 'spatial axes')}", layer)
    if claim.count not in (None, shape[0]):
        got = f"`{claim.takes}` of `{claim.name}` is {claim.count}, and its input is {show_shape(shape)}"
        expected = str(shape[0])
        if layer.word == "fc" and (claim.count or 0) < shape[0]:
            expected += ", or pooling before it: the pasted lines lack what forward() calls, such as F.max_pool2d(x, 2)"
        raise Fault(claim.place[0], got, expected, Edit(*claim.place, str(shape[0])))


def axes(layer: Layer, name: str, count: int) -> tuple[int, ...]:
    """A size argument as one number for each axis; Fault where it has another number of entries."""
    value = layer[name]
    if isinstance(value, tuple):
        if len(value) != count:
            fitting = (value + value[-1:] * count)[:count]
            got = f"`{name}` {show_value(value)} for {several(len(value), 'axis', 'axes')} on a map with {count}"
            raise _fault(
                layer, got, f"{several(count, 'number')}, or one for all axes", layer.changed(**{name: fitting})
            )
        return value
    assert isinstance(value, int)
    return (value,) * count


def paddings(layer: Layer, count: int) -> tuple[tuple[int, int], ...]:
    """The padding of `conv` and `local` before and after each axis; `same` puts an odd position after, as torch
    does."""
    if layer["pad"] != "same":
        return tuple((pad, pad) for pad in axes(layer, "pad", count))
    kernels, dilations = axes(layer, "kernel", count), _dilations(layer, count)
    return tuple(same_padding(AxisWindows(0, k, dilation=d).span) for k, d in zip(kernels, dilations, strict=True))


def windows_along(layer: Layer, sizes: Shape) -> tuple[AxisWindows, ...]:
    """The windows of `conv`, `local` or a pooling along each axis of a map."""
    count = len(sizes)
    kernels = axes(layer, _kernel_name(layer), count)
    strides = kernels if layer["stride"] is None else axes(layer, "stride", count)
    numbers = zip(sizes, kernels, strides, paddings(layer, count), _dilations(layer, count), strict=True)
    return tuple(AxisWindows(size, k, s, before, after, d) for size, k, s, (before, after), d in numbers)


def _dilations(layer: Layer, count: int) -> tuple[int, ...]:
    return axes(layer, "dilation", count) if layer.word == "conv" else (1,) * count


def _kernel_name(layer: Layer) -> str:
    return "kernel" if layer.word in ("conv", "local") else "size"


def _fault(layer: Layer, got: str, expected: str, *replacements: Layer | str) -> Fault:
    edits = [Edit(layer.position, layer.end, str(new)) for new in replacements]
    return Fault(layer.position, got, expected, *edits)


def _one(values: tuple[int, ...]) -> Value:
    return values[0] if len(set(values)) == 1 else values


def _need_map(layer: Layer, shape: Shape, *replacements: Layer | str) -> None:
    if len(shape) == 1:
        got = f"`{layer}` on a vector of {several(shape[0], 'feature')}"
        expected = "a map with spatial axes; tables and the outputs of flatten, gap or fc have none"
        raise _fault(layer, got, expected, *replacements, "", "relu")


def _convolution(layer: Layer, shape: Shape) -> Shape:
    filters = layer["filters"]
    assert isinstance(filters, int)
    _need_map(layer, shape, Layer("fc", (("n", filters),)))
    windows = windows_along(layer, shape[1:])
    if layer["pad"] == "same" and any(along.stride > 1 for along in windows):
        half = _one(tuple(along.span // 2 for along in windows))
        got = f"`pad=same` with stride {show_value(layer['stride'])}"
        expected = "stride 1, with which input and output have the same size"
        raise _fault(layer, got, expected, layer.changed(pad=half), layer.changed(stride=1))
    if layer.word == "conv":
        _check_groups(layer, shape[0], filters)
        _check_padding_mode(layer, windows)
    return (filters, *_counts(layer, windows))


def _check_groups(layer: Layer, channels: int, filters: int) -> None:
    groups = layer["groups"]
    assert isinstance(groups, int)
    common = math.gcd(channels, filters)
    if common % groups:
        fitting = max(d for d in range(1, min(groups, common) + 1) if common % d == 0)
        got = f"{several(groups, 'group')} for {several(channels, 'input channel')} and {several(filters, 'filter')}"
        expected = f"a divisor of both, that is of {common}"
        more = layer.changed(filters=-(-filters // groups) * groups)
        best = [more] if channels % groups == 0 else []
        raise _fault(layer, got, expected, *best, layer.changed(groups=fitting))


def _check_padding_mode(layer: Layer, windows: tuple[AxisWindows, ...]) -> None:
    mode = str(layer["padding_mode"])
    for along in windows:
        reach, limit = max(along.before, along.after), furthest_reach(mode, along.size)
        if limit is not None and reach > limit:
            got = f"{several(reach, 'position')} of {mode} padding on a map of {along.size}"
            expected = f"at most {limit}: the padding is copied from the map"
            zeros, none = layer.changed(padding_mode="zeros"), layer.changed(pad=0)
            raise _fault(layer, got, expected, zeros, none)


def _counts(layer: Layer, windows: tuple[AxisWindows, ...]) -> tuple[int, ...]:
    """The number of windows along each axis; Fault where none fits."""
    for axis, along in enumerate(windows):
        if along.count < 1:
            raise _window_fault(layer, windows, axis)
    return tuple(along.count for along in windows)


def _window_fault(layer: Layer, windows: tuple[AxisWindows, ...], axis: int) -> Fault:
    name, along = _kernel_name(layer), windows[axis]
    spread = f" with dilation {along.dilation} spans {along.span}," if along.dilation > 1 else " is"
    room = f"{along.size} + 2·{along.before} padding = {along.padded}"
    got = f"`{layer}`: {name} {along.kernel}{spread} larger than its map {room}"
    fitting = tuple(min(w.kernel, (w.padded - 1) // w.dilation + 1) for w in windows)
    changed = layer.changed(**{name: _one(fitting)})
    if name == "size":
        least = _one(tuple(min(w.before, k // 2) for w, k in zip(windows, fitting, strict=True)))
        changed = changed.changed(pad=least)
    expected = f"{name} at most {fitting[axis]} here, or more padding, or less pooling before"
    wider = tuple(max(w.before, -(-(w.span - w.size) // 2)) for w in windows)
    padded = [layer.changed(pad=_one(wider))] if name == "kernel" else []
    return _fault(layer, got, expected, changed, *padded)


def _pooling(layer: Layer, shape: Shape) -> Shape:
    _need_map(layer, shape)
    windows = windows_along(layer, shape[1:])
    for along in windows:
        if along.before > along.kernel // 2:
            half = _one(tuple(min(w.before, w.kernel // 2) for w in windows))
            got = f"padding {along.before} for a window of {along.kernel}"
            expected = f"at most half the window, {along.kernel // 2}: no window may lie only in padding"
            raise _fault(layer, got, expected, layer.changed(pad=half))
    return (shape[0], *_counts(layer, windows))


def _map_only(layer: Layer, shape: Shape) -> Shape:
    _need_map(layer, shape)
    return shape


def _divided(layer: Layer, shape: Shape, name: str, what: str) -> int:
    number, channels = layer[name], shape[0]
    assert isinstance(number, int)
    if channels % number:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        fitting = min(divisors, key=lambda d: (d == 1, abs(d - number)))
        got = f"{several(number, what)} for {several(channels, 'channel')}"
        raise _fault(layer, got, f"a divisor of {channels}", layer.changed(**{name: fitting}))
    return number


def _group_norm(layer: Layer, shape: Shape) -> Shape:
    groups = _divided(layer, shape, "groups", "group")
    if math.prod(shape) == groups:  # torch refuses it for a single input, and outputs zeros for others
        fewer = [layer.changed(groups=d) for d in range(groups - 1, 0, -1) if groups % d == 0]
        got = f"{several(groups, 'group')} for {several(groups, 'value')}"
        raise _fault(layer, got, "at least two values in a group", *fewer[:1], "", "relu")
    return shape


def _maxout(layer: Layer, shape: Shape) -> Shape:
    return (shape[0] // _divided(layer, shape, "pieces", "piece"), *shape[1:])


def _fully_connected(layer: Layer, _shape: Shape) -> Shape:
    outputs = layer["n"]
    assert isinstance(outputs, int)
    return (outputs,)


def _global_pool(layer: Layer, shape: Shape) -> Shape:
    _need_map(layer, shape)
    return shape[:1]


def _flatten(_layer: Layer, shape: Shape) -> Shape:
    return (math.prod(shape),)


def _upsample(layer: Layer, shape: Shape) -> Shape:
    _need_map(layer, shape)
    factors = axes(layer, "factor", len(shape) - 1)
    return (shape[0], *(size * factor for size, factor in zip(shape[1:], factors, strict=True)))


def _unflatten(layer: Layer, shape: Shape) -> Shape:
    size = layer["size"]
    wanted = size if isinstance(size, tuple) else (int(str(size)),)
    if math.prod(wanted) != math.prod(shape):
        got = f"`{layer}` for {several(math.prod(shape), 'number')}"
        fitting = (math.prod(shape) // math.prod(wanted[1:]), *wanted[1:])
        fits = [layer.changed(size=fitting)] if math.prod(fitting) == math.prod(shape) else []
        expected = f"channels×height×width of as many numbers, not of {math.prod(wanted):,}"
        flat = "flatten " if len(shape) > 1 else ""
        raise _fault(layer, got, expected, *(f"{flat}{fit}" for fit in fits), layer.changed(size=math.prod(shape)), "")
    if len(shape) > 1:
        raise _fault(layer, f"`{layer}` on a map of {show_shape(shape)}", "a vector", f"flatten {layer}")
    return wanted


_RULES: dict[str, Callable[[Layer, Shape], Shape]] = {
    "conv": _convolution,
    "local": _convolution,
    "pool": _pooling,
    "avgpool": _pooling,
    "l2pool": _pooling,
    "lrn": _map_only,
    "lcn": _map_only,
    "gn": _group_norm,
    "maxout": _maxout,
    "fc": _fully_connected,
    "code": _fully_connected,
    "unflatten": _unflatten,
    "gap": _global_pool,
    "flatten": _flatten,
    "up": _upsample,
}
"""Words that are not listed take any shape and keep it."""
