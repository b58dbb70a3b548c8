"""Do the parameters move at all?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE, Trial
from striate.doctor.evidence.trial_variants import optimized, unmoved
from striate.records import Finding

SMALL = 1e-5
"""Rate, and rate times gradient: with smaller ones rounding may be what takes a step away."""


def run(evidence: Evidence) -> Iterator[Finding]:
    """Gradients came, and after all steps of the trial every parameter is what it was."""
    trial = evidence.trial
    if len(trial.rows) < FEWEST_TO_JUDGE:
        raise NoEvidence(f"fewer than {FEWEST_TO_JUDGE} steps could be made: gradients may be added up for longer")
    came = [row.raw for row in trial.rows if row.raw]
    still = unmoved(trial)
    if not came or trial.astray or len(still) < len(trial.double.twins):
        return
    optimizer = {name for name in optimized(trial) if name in trial.double.twins}
    made = sum(row.steps for row in trial.rows)
    if made and (not optimizer or not any(any(row.rates) for row in trial.rows)):
        return  # the optimizer holds none of them, or its rate is 0: other checks say that
    applied = max((row.applied for row in trial.rows if row.applied), default=0.0)
    rate = max((max(row.rates) for row in trial.rows if row.rates), default=0.0)
    if made and applied and min(rate, rate * applied) < SMALL:
        return  # steps too small for the numbers' precision
    measured, remedy = _told(trial, made, rate if applied else 0.0)
    yield Finding(
        code="optim.no-step",
        severity="error",
        where="the training step",
        measured=f"{measured}: after {len(trial.rows)} steps all {len(still)} parameters are what they were",
        threshold=f"no parameter changed in {FEWEST_TO_JUDGE} steps or more, though gradients came",
        why="Nothing is ever learned: the gradients are computed and not used.",
        remedy=remedy,
    )


def _told(trial: Trial, made: int, rate: float) -> tuple[str, str]:
    gradient = f"gradients have a norm of {next(row.raw for row in trial.rows if row.raw):.2g}"
    if made and rate:
        return (
            f"{gradient} and the optimizer steps with lr {rate:g}, but the parameters are put back",
            "Look for what writes into the parameters after `optimizer.step()`: a `load_state_dict`, or a copy that "
            "is trained in their place.",
        )
    if made:
        return (
            f"{gradient}, but none is left when the optimizer steps",
            "Call `optimizer.zero_grad()` before `loss.backward()`, not between it and `optimizer.step()`.",
        )
    return (
        f"{gradient}, and the optimizer never steps",
        "Call `optimizer.step()` after `loss.backward()`, on the optimizer of this network's parameters; where a "
        "condition or a gradient scaler may skip it, print how often that happens.",
    )


CHECK = Check(
    codes=("optim.no-step",),
    question="Do the parameters move, where gradients come?",
    threshold=f"None changed in {FEWEST_TO_JUDGE} steps: whoever adds up gradients steps sooner.",
    run=run,
    explains="model.collapsed optim.lr-too-low fit.*",
)
