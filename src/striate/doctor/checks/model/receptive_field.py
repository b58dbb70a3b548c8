"""`model.receptive-field`: do units see enough of the input before their map is pooled to one position?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.one_step_seen import NOTHING, one_step_seen
from striate.doctor.checks.model.variants import TriedChange, accuracy_after, gain_text, try_change
from striate.doctor.evidence.call_graph import Call, CallGraph
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import movement
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.replicas import Replica
from striate.records import Finding
from striate.wording import percent, several, show_sizes

_POOLING = ("mean", "sum", "max", "amax", "logsumexp", "adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool")
_FAR = frozenset(["matmul", "__matmul__", "bmm", "einsum", "linear", "roll", "flip", "cumsum", "gather", "sort"])
"""Functions that move values between positions other than by windows."""


@dataclass(frozen=True)
class PooledMap:
    """A last map that is pooled to one position, and how much of the input each of its units sees. A mean over the map
    that normalization or a gate adds to each position does not count."""

    field: tuple[int, ...]
    """Input positions along each axis that a unit sees."""
    sides: tuple[int, ...]
    """Size of the input along each axis."""
    last: Call
    """The call that computes the map."""
    pooled: Call
    """The call that pools it."""

    @property
    def share(self) -> float:
        """The share of the input's side that a unit sees, along the axis where it sees most."""
        return max(field / side for field, side in zip(self.field, self.sides, strict=True))


def pooled_map(graph: CallGraph) -> PooledMap | None:
    """The map that is pooled to one position after the last convolution; None where there is none, or where positions
    are combined in another way."""
    convolutions = [call for call in graph.weights if call.name.startswith("conv") and len(call.shape) > 2]
    if not convolutions or any(call.name.startswith("conv_transpose") for call in convolutions):
        return None
    last = convolutions[-1]
    pooled = next((call for call in graph.calls[last.index + 1 :] if _pools(call)), None)
    if pooled is None:
        return None
    sides = convolutions[0].input_shapes[0][2:]
    known: dict[int, tuple[list[float], list[float]]] = {}
    for index in sorted(i for i in graph.ancestors(pooled.index) if i >= 0):
        call = graph.calls[index]
        if index == pooled.index or not call.from_batch or len(call.shape) != len(last.shape):
            continue
        if call.name in _FAR:
            return None
        known[index] = _through(call, [known[i] for i in call.inputs if i in known], len(sides))
    if last.index not in known:
        return None
    ends = [known[i] for i in pooled.inputs if i in known] or [known[last.index]]
    field = tuple(max(round(fields[axis]) for fields, _ in ends) for axis in range(len(sides)))
    return PooledMap(field, tuple(sides), last, pooled)


def _pools(call: Call) -> bool:
    """Whether a call reduces a map to one position."""
    if not call.input_shapes or len(call.input_shapes[0]) < 3 or not call.name.startswith(_POOLING):
        return False
    before, after = call.input_shapes[0], call.shape
    return math.prod(before[2:]) > 1 and after[:2] == before[:2] and math.prod(after[2:]) == 1


def _through(call: Call, inputs: list[tuple[list[float], list[float]]], axes: int) -> tuple[list[float], list[float]]:
    """The receptive fields after a call, and the distances between neighboring positions, along each axis; `inputs`:
    those of its inputs."""
    fields = [max((field[axis] for field, _ in inputs), default=1.0) for axis in range(axes)]
    jumps = [max((jump[axis] for _, jump in inputs), default=1.0) for axis in range(axes)]
    if not call.input_shapes or len(call.input_shapes[0]) != axes + 2:
        return fields, jumps
    for axis in range(axes):
        window, stride = _window(call, axis)
        fields[axis] += (window - 1) * jumps[axis]
        jumps[axis] *= stride
    return fields, jumps


def _window(call: Call, axis: int) -> tuple[float, float]:
    """The size of a call's window along an axis, in positions, and its stride."""
    if call.name.startswith("conv") and len(call.input_shapes) > 1 and len(call.input_shapes[1]) > 2 + axis:
        dilation = _along(call.option(5, "dilation", 1), axis)
        return (call.input_shapes[1][2 + axis] - 1) * dilation + 1, _along(call.option(3, "stride", 1), axis)
    if call.name.startswith(("max_pool", "avg_pool", "lp_pool")):
        window = _along(call.option(1, "kernel_size", 1), axis)
        stride = call.option(2, "stride")
        return window, _along(stride, axis) if stride else window
    side, left = call.input_shapes[0][2 + axis], call.shape[2 + axis]
    if side == 1:  # one number for all positions, such as a weight
        return 1, 1
    # Adaptive pooling, interpolation, or a stride of slices.
    return (max(side / left, 1.0), side / left) if left and left != side else (1, 1)


def _along(option: object, axis: int) -> int:
    if isinstance(option, list | tuple):
        option = option[axis] if axis < len(option) else option[0]
    return option if isinstance(option, int) else 1


CODE = "model.receptive-field"
SMALL = 0.5
"""Share of the input's side: parts of half the size suffice to distinguish most objects."""
THIRD = 1 / 3
GOOD, POOR = 0.9, 0.7
"""Accuracies on training samples after the trial: above GOOD, the receptive field does no harm; below POOR, it may."""


def run(evidence: Evidence) -> Iterator[Finding]:
    with suppress(NoEvidence):
        step = one_step_seen(evidence)
        if step is not None:
            yield _of_one_step(*step)
            return
    if not evidence.setup.classifies:
        return
    last_map = pooled_map(evidence.prediction_graph)
    if last_map is None or last_map.share >= SMALL:
        return
    if movement(evidence.trial) == 0:
        raise NoEvidence("no step moves a weight, so the cost of the receptive field cannot be measured")
    accuracy = accuracy_after(evidence)
    if accuracy > GOOD:
        return
    wider = max(2, min(6, round(1 / last_map.share)))
    remedy = try_change(evidence, "larger receptive field", Change(prepare=lambda replica: _dilate(replica, wider)))
    if remedy is not None and not remedy.better:
        return
    if remedy is None and (last_map.share >= THIRD or accuracy > POOR):
        return
    yield _finding(last_map, remedy, accuracy, wider, sure=remedy is not None or _guesses(evidence))


def _of_one_step(name: str, steps: int) -> Finding:
    return Finding(
        code=CODE,
        severity="error",
        where="the network",
        measured=f"of {several(steps, 'step')} of a sequence, only the {name} one changes the predictions: they stay "
        "the same if all other steps are exchanged between samples",
        threshold=f"a change of {NOTHING:g} of the predictions' standard deviation",
        why="A recurrent layer, or attention with a causal mask, has seen the whole sequence only at its end. At its "
        "other end it has seen a single step.",
        remedy="use the state of the last step: `out[:, -1]` of `out, _ = gru(x)` with `batch_first=True`"
        if name == "first"
        else "use the state in which the recurrent layer has seen all steps: for one that runs backward, `out[:, 0]`",
    )


def _guesses(evidence: Evidence) -> bool:
    with suppress(NoEvidence):
        known = evidence.after.quality
        return known is not None and known.guesses
    return False


def _dilate(replica: Replica, times: int) -> None:
    """Multiply the dilation of all convolutions but the first by `times`, with padding that keeps the maps' sizes."""
    layers = [
        part
        for part in replica.model.modules()
        if isinstance(part, nn.modules.conv._ConvNd) and not part.transposed and max(part.kernel_size) > 1
    ]
    for part in layers[1:] or layers:
        more = [
            (kernel - 1) * dilation * (times - 1)
            for kernel, dilation in zip(part.kernel_size, part.dilation, strict=True)
        ]
        if part.padding_mode != "zeros" or any(extra % 2 for extra in more):
            continue
        if not isinstance(part.padding, str):
            part.padding = tuple(pad + extra // 2 for pad, extra in zip(part.padding, more, strict=True))
        part.dilation = tuple(dilation * times for dilation in part.dilation)


def _finding(last_map: PooledMap, remedy: TriedChange | None, accuracy: float, wider: int, *, sure: bool) -> Finding:
    place = last_map.last.place
    return Finding(
        code=CODE,
        severity="warning" if last_map.share < THIRD and sure else "note",
        where=place,
        measured=f"a unit of the last feature map ({place}) sees {show_sizes(last_map.field)} of "
        f"{show_sizes(last_map.sides)} positions, {percent(last_map.share, 0)} of a side, before "
        f"{last_map.pooled.name} reduces the map to one position; after the trial the accuracy on training samples is "
        f"{percent(accuracy, 0)}{gain_text(remedy, f'with {wider} times the dilation')}",
        threshold=f"half of a side, or an accuracy of {percent(GOOD, 0)} without it",
        why="Pooling over the whole map discards positions: features that no unit sees together are never combined.",
        remedy="Use more pooling or stride between the convolutions, more of them, or `dilation=2` in the later ones; "
        "or flatten the map instead of pooling it.",
    )


RECEPTIVE_FIELD = Check(
    codes=(CODE,),
    run=run,
    quick=False,
    explains="model.collapsed model.vanishing-gradient optim.lr-too-low fit.*",
)
