"""The decoder of an autoencoder: the layers up to its code, mirrored; free of torch.

The layers are inverted in reverse order: `fc` by an `fc` with as many outputs as it had inputs, `conv` by a `conv` with
the same kernel and as many filters as it had channels, `pool` and strides by `up`, flattening by `unflatten`. An
activation or normalization after a layer also follows the layer that reconstructs that layer's outputs; the last layer
has none. Dropout is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from striate.models.layer_strings.fault import Edit, Fault
from striate.models.layer_strings.fits import axes
from striate.models.layer_strings.spec import Layer, Network
from striate.models.layer_strings.words import Value
from striate.wording import show_shape

Shape = tuple[int, ...]
At = tuple[Layer, Shape, Shape]
"""A layer, and the shapes of its input and output."""

_WEIGHTED, _POOLS = ("fc", "conv", "code"), ("pool", "avgpool")
_KEPT = ("relu", "leaky", "prelu", "elu", "sigmoid", "tanh", "swish", "bn", "gn", "ln")
_BY_HAND = "your own decoder after the code, with as many outputs as the image has values"


def code_of(network: Network) -> tuple[Layer | None, bool]:
    """The code layer of a network, None if there is none; and whether it is the last layer, so that the decoder is the
    mirrored encoder. Raises Fault for two code layers."""
    codes = [item for item in network.items if isinstance(item, Layer) and item.word == "code"]
    if len(codes) > 1:
        second = codes[1]
        as_layer = Edit(second.position, second.end, str(Layer("fc", (("n", second["n"]),))))
        raise Fault(second.position, "a second code", "one code in a network", as_layer)
    return (codes[0] if codes else None), bool(codes) and network.items[-1] is codes[0]


def mirrored(steps: Sequence[At], code: Layer) -> tuple[Layer, ...]:
    """The decoder for the layers up to and including `code`. Raises Fault at a layer that cannot be mirrored."""
    layers: list[Layer] = []
    tail: list[At] = []
    tied = bool(code["tied"])
    for step in reversed(steps):
        if step[0].word not in _WEIGHTED:
            tail.insert(0, step)
            continue
        layers += _between(tail)
        tail = []
        layers += _undone(step, tied)
    layers += [layer for layer in _between(tail) if layer.word in ("unflatten", "up")]
    return tuple(Layer(layer.word, layer.arguments, code.position, code.end, tied=layer.tied) for layer in layers)


def _between(tail: Sequence[At]) -> list[Layer]:
    """The inverse of the layers between two layers with weights: first the shape of maps is restored, then activation
    and normalization follow unchanged, then the size of maps before pooling is restored."""
    shape = [_call("unflatten", size=before) for layer, before, _ in reversed(tail) if layer.word == "flatten"]
    kept = [layer for layer, _, _ in tail if layer.word in _KEPT]
    grown = [_grown(step) for step in reversed(tail) if step[0].word in _POOLS]
    other = [step[0] for step in tail if step[0].word not in (*_KEPT, *_POOLS, "flatten", "dropout")]
    if other:
        raise _fault(other[0], f"`{other[0]}`, which no layer inverts", Layer("relu"), "")
    return [*shape, *kept, *grown]


def _undone(step: At, tied: bool) -> list[Layer]:
    layer, before, after = step
    if layer.word != "conv":
        return [_call("fc", tied=tied, n=math.prod(before))]
    count = len(before) - 1
    kernels, strides = axes(layer, "kernel", count), axes(layer, "stride", count)
    dilations = axes(layer, "dilation", count)
    groups = layer["groups"]
    assert isinstance(groups, int)
    if max(strides) == 1 and layer["pad"] != "same":
        spans = [d * (k - 1) for k, d in zip(kernels, dilations, strict=True)]
        rest = tuple(s - p for s, p in zip(spans, axes(layer, "pad", count), strict=True))
        pads: Value = rest
        if min(rest) < 0:
            raise _fault(layer, f"`{layer}`, whose padding is wider than its kernel", layer.changed(pad="same"))
    else:
        pads = "same"
    grown = [_grown(step)] if max(strides) > 1 else []
    uneven = pads == "same" and any(kernel % 2 == 0 for kernel in kernels)
    if tied and (grown or groups > 1 or max(dilations) > 1 or count != 2 or uneven):
        plain = layer.changed(stride=1, groups=1, dilation=1)
        raise _fault(layer, f"`{layer}` with `tied=true`, which takes plain 2-D convolutions of stride 1", plain)
    values = {"filters": before[0], "kernel": layer["kernel"], "pad": _one(pads), "dilation": layer["dilation"]}
    shared = groups if before[0] % groups == 0 and after[0] % groups == 0 else 1
    return [*grown, _call("conv", tied=tied, **values, groups=shared)]


def _grown(step: At) -> Layer:
    """`up` to the size before a pooling or a stride; Fault where that is not a multiple of the size after it."""
    layer, before, after = step
    pairs = list(zip(before[1:], after[1:], strict=True))
    if any(large % small for large, small in pairs):
        got = f"`{layer}` makes {show_shape(after[1:])} of {show_shape(before[1:])}"
        expected = f"a size that divides without remainder, so that `up` restores it; or {_BY_HAND}"
        whole = next((k for k in range(2, min(before[1:]) + 1) if all(s % k == 0 for s in before[1:])), 1)
        edits: list[Layer | str] = [layer.changed(size=whole, stride=None, pad=0)] if layer.word in _POOLS else []
        raise _fault(layer, got, *edits, "", expected=expected)
    return _call("up", factor=_one(tuple(large // small for large, small in pairs)))


def _one(value: Value) -> Value:
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _call(word: str, *, tied: bool = False, **values: Value) -> Layer:
    layer = Layer(word, ()).changed(**values)
    return Layer(layer.word, layer.arguments, tied=tied)


def _fault(layer: Layer, got: str, *replacements: Layer | str, expected: str = "") -> Fault:
    edits = [Edit(layer.position, layer.end, str(new)) for new in replacements]
    return Fault(layer.position, got, expected or f"layers that can be mirrored; or {_BY_HAND}", *edits)
