"""`model.receptive-field`: do the units that decide see enough of the input?
How much of the input a unit sees through windows, before a map is pooled to one place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.one_step_seen import NOTHING, one_step_seen
from striate.doctor.checks.model.variants import Tried, said, tried
from striate.doctor.evidence.call_graph import Call, CallGraph
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import quality
from striate.doctor.evidence.rates import movement
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.replicas import Replica
from striate.records import Finding
from striate.wording import several, show_sizes

_POOLING = ("mean", "sum", "max", "amax", "logsumexp", "adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool")
_FAR = frozenset(["matmul", "__matmul__", "bmm", "einsum", "linear", "roll", "flip", "cumsum", "gather", "sort"])
"""Functions that carry numbers from place to place otherwise than by windows."""


@dataclass(frozen=True)
class View:
    """A last map that is pooled to one place, and how much of the input each of its units sees. A mean over the map
    that normalization or a gate adds to each place does not count."""

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
        """Of the side, along the axis where most is seen."""
        return max(field / side for field, side in zip(self.field, self.sides, strict=True))


def pooled_view(graph: CallGraph) -> View | None:
    """The view of the last map that is pooled to one place, behind the last convolution; None where there is none, or
    places are put together in another way."""
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
    return View(field, tuple(sides), last, pooled)


def _pools(call: Call) -> bool:
    """Whether a call makes one place of a map."""
    if not call.input_shapes or len(call.input_shapes[0]) < 3 or not call.name.startswith(_POOLING):
        return False
    before, after = call.input_shapes[0], call.shape
    return math.prod(before[2:]) > 1 and after[:2] == before[:2] and math.prod(after[2:]) == 1


def _through(call: Call, inputs: list[tuple[list[float], list[float]]], axes: int) -> tuple[list[float], list[float]]:
    """Fields and distances between neighbors behind a call."""
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
    """Positions that a call looks at along an axis, and its stride."""
    if call.name.startswith("conv") and len(call.input_shapes) > 1 and len(call.input_shapes[1]) > 2 + axis:
        dilation = _along(call.option(5, "dilation", 1), axis)
        return (call.input_shapes[1][2 + axis] - 1) * dilation + 1, _along(call.option(3, "stride", 1), axis)
    if call.name.startswith(("max_pool", "avg_pool", "lp_pool")):
        window = _along(call.option(1, "kernel_size", 1), axis)
        stride = call.option(2, "stride")
        return window, _along(stride, axis) if stride else window
    side, left = call.input_shapes[0][2 + axis], call.shape[2 + axis]
    if side == 1:  # one number for all places, as the share of a blend
        return 1, 1
    # Adaptive pooling, interpolation, or a stride of slices.
    return (max(side / left, 1.0), side / left) if left and left != side else (1, 1)


def _along(given: object, axis: int) -> int:
    if isinstance(given, list | tuple):
        given = given[axis] if axis < len(given) else given[0]
    return given if isinstance(given, int) else 1


CODE = "model.receptive-field"
SMALL = 0.5
"""Of the input's side: parts of half the size tell most objects apart."""
THIRD = 1 / 3
GOOD, POOR = 0.9, 0.7
"""Of the samples right after the trial: from the one on, the view is no hindrance; below the other, something is."""


def run(evidence: Evidence) -> Iterator[Finding]:
    with suppress(NoEvidence):
        seen = one_step_seen(evidence)
        if seen is not None:
            yield _of_one_step(*seen)
            return
    if not evidence.setup.classifies:
        return
    view = pooled_view(evidence.prediction_graph)
    if view is None or view.share >= SMALL:
        return
    if movement(evidence.trial) == 0:
        raise NoEvidence("no step moves a weight, so the cost of the receptive field cannot be measured")
    right = _share_right(evidence)
    if right > GOOD:
        return
    wider = max(2, min(6, round(1 / view.share)))
    remedy = tried(evidence, "wider view", Change(prepare=lambda replica: _dilate(replica, wider)))
    if remedy is not None and not remedy.better:
        return
    if remedy is None and (view.share >= THIRD or right > POOR):
        return
    yield _finding(view, remedy, right, wider, sure=remedy is not None or _guesses(evidence))


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
        known = quality(evidence.after.outputs, evidence.after.targets)
        return known is not None and known.guesses
    return False


def _share_right(evidence: Evidence) -> float:
    try:
        return evidence.after.accuracy
    except NoEvidence:
        return 0.0


def _dilate(replica: Replica, times: int) -> None:
    """Let all convolutions but the first look `times` as far, with maps of the same sizes."""
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


def _finding(view: View, remedy: Tried | None, right: float, wider: int, *, sure: bool) -> Finding:
    place = view.last.place
    return Finding(
        code=CODE,
        severity="warning" if view.share < THIRD and sure else "note",
        where=place,
        measured=f"a unit of the last feature map ({place}) sees {show_sizes(view.field)} of {show_sizes(view.sides)} "
        f"positions, {view.share:.0%} of a side, before {view.pooled.name} reduces the map to one position; after the "
        f"trial the accuracy on training samples is {right:.0%}"
        f"{said(remedy, f'with {wider} times the dilation')}",
        threshold=f"half of a side, or an accuracy of {GOOD:.0%} without it",
        why="Pooling over the whole map discards positions: features that no unit sees together are never combined.",
        remedy="Use more pooling or stride between the convolutions, more of them, or `dilation=2` in the later ones; "
        "or flatten the map instead of pooling it.",
    )


RECEPTIVE_FIELD = Check(
    codes=(CODE,),
    question="Do the units that decide see enough of the input?",
    run=run,
    quick=False,
    explains="model.collapsed model.vanishing-gradient optim.lr-too-low fit.*",
)
