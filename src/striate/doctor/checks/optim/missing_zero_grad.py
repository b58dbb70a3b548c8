"""Are gradients cleared between steps?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.watch import StepRow
from striate.records import Finding

SAME = 0.02
FEWEST = 2


def run(evidence: Evidence) -> Iterator[Finding]:
    """After each step of the optimizer, what it was given still lies there when the next gradients come."""
    rows = evidence.trial.rows
    left = _left_over(rows)
    if len(left) < FEWEST or not all(left):
        return
    first, last = (next(row.held for row in some if row.held) for some in (rows, list(reversed(rows))))
    raw = next((row.raw for row in reversed(rows) if row.raw), 0.0)
    yield Finding(
        code="optim.missing-zero-grad",
        severity="error",
        where="the training step",
        measured=f"in {len(left)} of {len(left)} steps the gradients of the step before still lay there: of norm "
        f"{first:.2g} at first, {last:.2g} in the last that were looked at; a batch's own have {raw:.2g}",
        threshold=f"what the optimizer was given is there within {SAME:.0%} when the next gradients come, after each "
        f"of {FEWEST} steps or more",
        why="Each step then follows the sum of all gradients since the beginning: it overshoots, ever faster.",
        remedy="Put `optimizer.zero_grad()` before `loss.backward()`, in each step.",
    )


def _left_over(rows: Sequence[StepRow]) -> list[bool]:
    """For each step that follows one in which the optimizer stepped: whether the gradients were left as they were."""
    found = []
    for before, row in pairwise(rows):
        if not before.steps or not before.applied or row.held is None or not math.isfinite(row.held):
            continue
        found.append(abs(row.held - before.applied) <= SAME * before.applied)
    return found


CHECK = Check(
    codes=("optim.missing-zero-grad",),
    question="Are gradients cleared after the optimizer's step?",
    threshold=f"What the optimizer was given lies there unchanged (within {SAME:.0%}) when the next gradients come, "
    "after each "
    f"of its first {FEWEST} steps at least. Adding up gradients for several batches before a step is no fault.",
    run=run,
    explains="loss.not-finite model.collapsed model.dead-units optim.clip-too-small optim.lr-too-high fit.*",
)
