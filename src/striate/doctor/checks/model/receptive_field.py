"""`model.receptive-field`: do the units that decide see enough of the input?"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.remedies import Tried, said, tried
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.evidence.views import View, pooled_view
from striate.doctor.patient.copies import Double
from striate.records import Finding
from striate.wording import show_sizes

CODE = "model.receptive-field"
SMALL = 0.5
"""Of the input's side: parts of half the size tell most objects apart."""
THIRD = 1 / 3
GOOD, POOR = 0.9, 0.7
"""Of the samples right after the trial: from the one on, the view is no hindrance; below the other, something is."""


def run(evidence: Evidence) -> Iterator[Finding]:
    if not evidence.patient.classifies:
        return
    view = pooled_view(evidence.answering)
    if view is None or view.share >= SMALL:
        return
    right = _share_right(evidence)
    if right > GOOD:
        return
    wider = max(2, min(6, round(1 / view.share)))
    remedy = tried(evidence, "wider view", Change(prepare=lambda double: _dilate(double, wider)))
    if remedy is not None and not remedy.better:
        return
    if remedy is None and (view.share >= THIRD or right > POOR):
        return
    yield _finding(view, remedy, right, wider)


def _share_right(evidence: Evidence) -> float:
    try:
        return evidence.after.accuracy
    except NoEvidence:
        return 0.0


def _dilate(double: Double, times: int) -> None:
    """Let all convolutions but the first look `times` as far, with maps of the same sizes."""
    layers = [
        part
        for part in double.model.modules()
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


def _finding(view: View, remedy: Tried | None, right: float, wider: int) -> Finding:
    place = view.last.place
    return Finding(
        CODE,
        "warning",
        place,
        f"a unit of the last map ({place}) sees {show_sizes(view.field)} of {show_sizes(view.sides)} positions, "
        f"{view.share:.0%} of a side, before {view.pooled.name} makes one place of the map; after the trial "
        f"{right:.0%} of the training samples are right{said(remedy, f'with kernels spread {wider} times as far')}",
        f"half of a side, or {GOOD:.0%} right all the same",
        "Pooling over the whole map forgets where things were: what no unit sees together is never put together.",
        "More pooling or stride between the convolutions, more of them, or `dilation=2` in the later ones; or flatten "
        "the map instead of pooling it.",
    )


CHECK = Check(
    (CODE,),
    "Do the units that decide see enough of the input?",
    f"less than half of a side before global pooling, if kernels spread wider give a loss 1.25 times smaller; where "
    f"that cannot be tried, less than a third and less than {POOR:.0%} right; never from {GOOD:.0%} right on",
    run,
    quick=False,
)
