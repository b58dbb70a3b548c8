"""What each layer makes of a shape: (C, *spatial) or (F,), without the batch; Fault where it does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable

from striate.models.layer_strings.fault import Edit, Fault
from striate.models.layer_strings.spec import Layer
from striate.models.layer_strings.words import Value, show_value

Shape = tuple[int, ...]


def fit_layer(layer: Layer, shape: Shape) -> Shape:
    """The shape that the layer gives; Fault with the arithmetic where it cannot take `shape`."""
    rule = _RULES.get(layer.word)
    return rule(layer, shape) if rule else shape


def axes(layer: Layer, name: str, count: int) -> tuple[int, ...]:
    """A size argument as one number an axis; Fault where it is written for another number of axes."""
    value = layer[name]
    if isinstance(value, tuple):
        if len(value) != count:
            fitting = (value + value[-1:] * count)[:count]
            got = f"`{name}` {show_value(value)} for {len(value)} axes on a map with {count}"
            raise _fault(layer, got, f"{count} numbers, or one for all axes", layer.changed(**{name: fitting}))
        return value
    assert isinstance(value, int)
    return (value,) * count


def paddings(layer: Layer, count: int) -> tuple[tuple[int, int], ...]:
    """What `conv` and `local` put before and after each axis; `same` puts the odd one after, as torch does."""
    if layer["pad"] != "same":
        return tuple((pad, pad) for pad in axes(layer, "pad", count))
    spans = _spans(layer, count)
    return tuple(((span - 1) // 2, span - 1 - (span - 1) // 2) for span in spans)


def _spans(layer: Layer, count: int) -> tuple[int, ...]:
    dilation = axes(layer, "dilation", count) if layer.word == "conv" else (1,) * count
    return tuple(d * (k - 1) + 1 for k, d in zip(axes(layer, "kernel", count), dilation, strict=True))


def _fault(layer: Layer, got: str, expected: str, *replacements: Layer | str) -> Fault:
    edits = [Edit(layer.position, layer.end, str(new)) for new in replacements]
    return Fault(layer.position, got, expected, *edits)


def _one(values: tuple[int, ...]) -> Value:
    return values[0] if len(set(values)) == 1 else values


def _need_map(layer: Layer, shape: Shape, *replacements: Layer | str) -> None:
    if len(shape) == 1:
        got = f"`{layer}` on a vector of {shape[0]} features"
        expected = "a map with spatial axes; tables have none, nor has what comes after flatten, gap or fc"
        raise _fault(layer, got, expected, *replacements, "", "relu")


def _convolution(layer: Layer, shape: Shape) -> Shape:
    filters = layer["filters"]
    assert isinstance(filters, int)
    _need_map(layer, shape, Layer("fc", (("n", filters),)))
    count = len(shape) - 1
    strides, spans = axes(layer, "stride", count), _spans(layer, count)
    if layer["pad"] == "same" and max(strides) > 1:
        half = _one(tuple(span // 2 for span in spans))
        got = f"`pad=same` with stride {show_value(layer['stride'])}"
        expected = "stride 1: only then input and output have the same size"
        raise _fault(layer, got, expected, layer.changed(pad=half), layer.changed(stride=1))
    if layer.word == "conv":
        _check_groups(layer, shape[0], filters)
        _check_padding_mode(layer, shape)
    sizes = []
    for axis, (size, (before, after)) in enumerate(zip(shape[1:], paddings(layer, count), strict=True)):
        if spans[axis] > size + before + after:
            raise _window_fault(layer, axis, shape, spans, before + after)
        sizes.append((size + before + after - spans[axis]) // strides[axis] + 1)
    return (filters, *sizes)


def _check_groups(layer: Layer, channels: int, filters: int) -> None:
    groups = layer["groups"]
    assert isinstance(groups, int)
    common = math.gcd(channels, filters)
    if common % groups:
        fitting = max(d for d in range(1, min(groups, common) + 1) if common % d == 0)
        got = f"{groups} groups for {channels} input channels and {filters} filters"
        expected = f"a divisor of both, that is of {common}"
        more = layer.changed(filters=-(-filters // groups) * groups)
        best = [more] if channels % groups == 0 else []
        raise _fault(layer, got, expected, *best, layer.changed(groups=fitting))


def _check_padding_mode(layer: Layer, shape: Shape) -> None:
    mode = layer["padding_mode"]
    if mode not in ("reflect", "circular"):
        return
    for size, pads in zip(shape[1:], paddings(layer, len(shape) - 1), strict=True):
        limit = size - 1 if mode == "reflect" else size
        if max(pads) > limit:
            got = f"{max(pads)} positions of {mode} padding on a map of {size}"
            expected = f"at most {limit}: padding is taken from the map"
            zeros, none = layer.changed(padding_mode="zeros"), layer.changed(pad=0)
            raise _fault(layer, got, expected, zeros, none)


def _window_fault(layer: Layer, axis: int, shape: Shape, spans: tuple[int, ...], added: int) -> Fault:
    count = len(shape) - 1
    name = "kernel" if layer.word in ("conv", "local") else "size"
    window, size = axes(layer, name, count), shape[1 + axis]
    dilation = axes(layer, "dilation", count) if layer.word == "conv" else (1,) * count
    spread = f" with dilation {dilation[axis]} spans {spans[axis]}," if dilation[axis] > 1 else " is"
    got = (
        f"`{layer}`: {name} {window[axis]}{spread} larger than its map {size} + 2·{added // 2} padding = {size + added}"
    )
    pads = [0] * count if layer["pad"] == "same" else list(axes(layer, "pad", count))
    fitting = tuple(
        min(k, (s + 2 * p - 1) // d + 1) for k, s, p, d in zip(window, shape[1:], pads, dilation, strict=True)
    )
    changed = layer.changed(**{name: _one(fitting)})
    if name == "size":
        least = _one(tuple(min(p, k // 2) for p, k in zip(pads, fitting, strict=True)))
        changed = changed.changed(pad=least)
    expected = f"{name} at most {fitting[axis]} here, or more padding, or less pooling before"
    wider = tuple(max(p, -(-(sp - s) // 2)) for p, sp, s in zip(pads, spans, shape[1:], strict=True))
    padded = [layer.changed(pad=_one(wider))] if name == "kernel" else []
    return _fault(layer, got, expected, changed, *padded)


def _pooling(layer: Layer, shape: Shape) -> Shape:
    _need_map(layer, shape)
    count = len(shape) - 1
    windows, pads = axes(layer, "size", count), axes(layer, "pad", count)
    strides = windows if layer["stride"] is None else axes(layer, "stride", count)
    for window, pad in zip(windows, pads, strict=True):
        if pad > window // 2:
            half = _one(tuple(min(p, w // 2) for p, w in zip(pads, windows, strict=True)))
            got = f"padding {pad} for a window of {window}"
            expected = f"at most half the window, {window // 2}: no window may lie in the padding only"
            raise _fault(layer, got, expected, layer.changed(pad=half))
    sizes = []
    for axis, (size, pad) in enumerate(zip(shape[1:], pads, strict=True)):
        if windows[axis] > size + 2 * pad:
            raise _window_fault(layer, axis, shape, windows, 2 * pad)
        sizes.append((size + 2 * pad - windows[axis]) // strides[axis] + 1)
    return (shape[0], *sizes)


def _map_only(layer: Layer, shape: Shape) -> Shape:
    _need_map(layer, shape)
    return shape


def _divided(layer: Layer, shape: Shape, name: str, what: str) -> int:
    number, channels = layer[name], shape[0]
    assert isinstance(number, int)
    if channels % number:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        fitting = min(divisors, key=lambda d: (d == 1, abs(d - number)))
        got = f"{number} {what} for {channels} channels"
        raise _fault(layer, got, f"a divisor of {channels}", layer.changed(**{name: fitting}))
    return number


def _group_norm(layer: Layer, shape: Shape) -> Shape:
    _divided(layer, shape, "groups", "groups")
    return shape


def _maxout(layer: Layer, shape: Shape) -> Shape:
    return (shape[0] // _divided(layer, shape, "pieces", "pieces"), *shape[1:])


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
    "gap": _global_pool,
    "flatten": _flatten,
    "up": _upsample,
}
"""Words not listed keep the shape and take any."""
