"""`model.shrinks-too-fast`: do the feature maps shrink to nothing before the last convolutions?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn import functional

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.variants import BETTER, accuracy_after, gain_text, try_change
from striate.doctor.evidence.call_graph import Call, CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_output
from striate.records import Finding
from striate.wording import listed, percent, several, show_sizes

CODE = "model.shrinks-too-fast"
USED = 0.4
"""Share of a kernel's taps along an axis that see the map: of 3 taps on a map of 1, or 5 on a map of 2, the others see
only padding."""
SHARE = 0.4
"""Share of the convolutions with a kernel above 1. In networks made for larger images, the last stage often has maps of
1."""
POOR = 0.8
"""Accuracy on training samples after the trial, above which the network is not held back."""
ANY = 1.05
"""How many times smaller the loss must be with less stride if several convolutions are idle, which is a sign itself."""
OVERSIZED = 4
"""How many times as wide as a map of several positions a kernel is without need; good networks have 7 taps on 2
positions."""
_TOO_LARGE = (
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
    "too small",
    "negative",
)
_POOLS = ("max_pool", "avg_pool", "lp_pool", "conv")
_STRIDED = (nn.modules.conv._ConvNd, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd)

_ADAPTIVE = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)
_POOL_TO: dict[int, Any] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


def run(evidence: Evidence) -> Iterator[Finding]:
    graph = evidence.graph
    if graph.error is not None and graph.failed is not None:
        yield from _no_map_left(graph)
        return
    kernels = [call for call in graph.weights if call.name.startswith("conv") and _spatial(call)]
    idle = [call for call in kernels if _share_used(call) <= USED]
    early = [] if idle else _after_one_place(graph)
    if len(idle) < SHARE * len(kernels) and not early:
        if idle:
            yield _finding(evidence, idle, len(kernels), "note")
        return
    if not idle and not early:
        return
    last = (kernels or early)[-1]
    change = Change(prepare=lambda replica: _less_stride(replica, last))
    remedy = try_change(evidence, "less stride", change, ANY if len(idle) > 1 else BETTER)
    better = remedy is not None and remedy.better
    # A single one may be intended to mix channels; several ones are not.
    many = len(idle or early) > 1 and (remedy is None or accuracy_after(evidence, unknown=1.0) < POOR)
    severity = "warning" if better or many or any(map(_is_oversized, idle)) else "note"
    yield _finding(
        evidence,
        idle or early,
        len(kernels),
        severity,
        gain_text(remedy, "with stride 2 in the first layer that strides and 1 in the others"),
    )


def _no_map_left(graph: CallGraph) -> Iterator[Finding]:
    """A call that raises an exception, since its kernel is larger than its map."""
    text = str(graph.error)
    assert graph.failed is not None
    name, shapes, inside = graph.failed
    if not any(part in text for part in _TOO_LARGE) or not any(part in name for part in _POOLS):
        return
    place = inside[-1].lstrip("*") if inside else "forward"
    sides = show_sizes(shapes[0][2:]) if shapes else "–"
    yield Finding(
        code=CODE,
        severity="error",
        where=place or "forward",
        measured=f"{name} in {place or 'forward'} gets maps of {sides} positions, and raises an exception: "
        f"{text[:140]}",
        threshold="a feature map that is as large as the kernel",
        why="Strides and pooling before this layer make the feature map too small.",
        remedy=f"Use less stride or pooling before {place or name}, `padding=1`, or a smaller kernel there.",
    )


def _spatial(call: Call) -> bool:
    return (
        len(call.input_shapes) > 1
        and len(call.input_shapes[0]) == len(call.input_shapes[1])
        and max(call.input_shapes[1][2:], default=1) > 1
    )


def _share_used(call: Call) -> float:
    """The share of a kernel's taps that see the map rather than its padding, over all positions; the largest of all
    axes with a kernel above 1."""
    sides, kernels = call.input_shapes[0][2:], call.input_shapes[1][2:]
    axes = zip(sides, kernels, strict=True)
    shares = [_axis_used(call, axis, side, kernel) for axis, (side, kernel) in enumerate(axes) if kernel > 1]
    return max(shares, default=1.0)


def _is_oversized(call: Call) -> bool:
    axes = zip(call.input_shapes[0][2:], call.input_shapes[1][2:], strict=True)
    return all(side > 1 and kernel >= OVERSIZED * side for side, kernel in axes)


def _axis_used(call: Call, axis: int, side: int, kernel: int) -> float:
    if side >= kernel:
        return 1.0
    stride, padding, dilation = (_along(call, place, name, axis) for place, name in _OPTIONS)
    counts = []
    for start in range(-padding, side + padding - dilation * (kernel - 1), max(stride, 1)):
        counts.append(sum(0 <= start + tap * dilation < side for tap in range(kernel)))
    return sum(counts) / (len(counts) * kernel) if counts else 1.0


_OPTIONS = ((3, "stride"), (4, "padding"), (5, "dilation"))


def _along(call: Call, place: int, name: str, axis: int) -> int:
    value = call.option(place, name, 0 if name == "padding" else 1)
    if value == "same":
        return (call.input_shapes[1][2 + axis] - 1) // 2
    if isinstance(value, list | tuple):
        value = value[axis] if axis < len(value) else value[0]
    return value if isinstance(value, int) else 0 if name == "padding" else 1


def _after_one_place(graph: CallGraph) -> list[Call]:
    """The convolutions after the map has shrunk to one position by a stride or a window, if these are two or more, and
    at least half of all; empty if the window covers the full map."""
    if graph.end is None:
        return []
    path = list(graph.bottlenecks(graph.end))
    weights = [call for call in path if graph.is_weights(call) and call.name.startswith("conv")]
    for call in path:
        shrinks = len(call.shape) > 2 and math.prod(call.shape[2:]) == 1 and call.input_shapes
        if shrinks and math.prod(call.input_shapes[0][2:]) > 1 and not call.name.startswith("adaptive"):
            full = call.name.startswith("conv") and call.input_shapes[1][2:] == call.input_shapes[0][2:]
            later = [w for w in weights if w.index > call.index]
            return later if not full and len(later) >= max(2, len(weights) / 2) else []
    return []


def _less_stride(replica: Replica, last: Call) -> None:
    """Set stride 2 in the first layer with a stride and 1 in all others, give pools a padded window of 3, and remove
    adaptive pooling. The output of the last convolution is averaged to its former size."""
    parts = dict(replica.model.named_modules())
    strided = [part for part in parts.values() if isinstance(part, _STRIDED) and _stride(part) > 1]
    for number, part in enumerate(strided):
        stride = 1 if number else 2
        if isinstance(part, nn.modules.conv._ConvNd):
            part.stride = (stride,) * len(part.stride)
        elif number or _stride(part) > stride:
            part.kernel_size, part.stride, part.padding = 3, stride, 1
    for part in parts.values():
        if isinstance(part, _ADAPTIVE):
            change_output(part, lambda args, _: args[0])
    pool = _POOL_TO.get(len(last.shape) - 2)
    if pool is not None and last.module in parts:
        change_output(parts[last.module], lambda _, output: pool(output, last.shape[2:]))


def _stride(part: nn.Module) -> int:
    stride = getattr(part, "stride", 1)
    return max(stride) if isinstance(stride, tuple) else int(stride or 1)


def _finding(evidence: Evidence, idle: list[Call], kernels: int, severity: str, gain: str = "") -> Finding:
    places = list(dict.fromkeys(call.place for call in idle))
    first = idle[0]
    sides = show_sizes(first.input_shapes[0][2:])
    x = evidence.train.x
    large = show_sizes(tuple(x.shape[2:])) if x is not None and x.ndim > 2 else "the input's size"
    share = _share_used(first)
    taps = f", where {percent(1 - share, 0)} of a kernel's taps along an axis see only padding" if share < 1 else ""
    return Finding(
        code=CODE,
        severity="warning" if severity == "warning" else "note",
        where=listed(places),
        measured=f"inputs of {large} have shrunk to maps of {sides} at {places[0]}; {len(idle)} of "
        f"{several(max(kernels, len(idle)), 'convolution')} ({listed(places)}) get such maps{taps}{gain}",
        threshold=f"fewer than {percent(SHARE, 0)} of the convolutions with less than {percent(USED, 0)} of their "
        "kernel in use",
        why="With a map of one position there is nothing left to convolve: the layout of the image is lost early.",
        remedy="Use less stride and pooling at the beginning: `stride=1` in the first layers, one pooling layer fewer.",
    )


SHRINKS_TOO_FAST = Check(
    codes=(CODE,),
    run=run,
    quick=False,
    explains=("model.collapsed model.dead-units model.receptive-field model.vanishing-gradient optim.lr-too-low fit.*"),
)
