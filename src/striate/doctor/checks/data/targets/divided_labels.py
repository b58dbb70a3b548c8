"""`data.target-scale`: labels of 0 and 1 that are divided by 255, as if they were 0 and 255."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

_ROUNDED = 0.01
"""The relative error of 1/255 in half precision."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    """The division may be in the data set or in the step."""
    known = (evidence.samples.y, *(call.target for call in evidence.calls.losses))
    if any(y is not None and _is_divided(y) for y in known):
        yield DIVIDED_LABELS.finding(
            severity="error",
            where="training targets",
            measured="all targets are 0 or 1/255 = 0.0039",
            why="The labels are 0 and 1 and are divided by 255, as if they were 0 and 255: the network learns to "
            "predict 0 everywhere.",
            remedy="do not divide the labels: `mask = mask.astype(np.float32)`. `ToTensor()` divides bytes, so make "
            "masks of 0 and 1 tensors by `torch.from_numpy(mask).float()`",
        )


def _is_divided(y: torch.Tensor) -> bool:
    if not y.is_floating_point() or not y.numel():
        return False
    most = y.max()
    if not abs(255 * float(most) - 1) <= _ROUNDED:
        return False
    return bool((y == 0).any()) and bool(((y == 0) | (y == most)).all())


DIVIDED_LABELS = Check(
    codes=("data.target-scale",),
    threshold="targets of two values that are not 0 and 1/255",
    run=_run,
    explains="loss.* model.collapsed model.dead-units model.last-layer-clipped optim.lr-too-low optim.no-step fit.*",
)
