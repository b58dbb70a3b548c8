"""`optim.no-step`: do the parameters change when they have gradients?"""

from __future__ import annotations

from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.other_optimizers import without_gradients
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE, Trial
from striate.doctor.evidence.trial_variants import optimized, unchanged_parameters
from striate.records import Finding
from striate.wording import several

_SMALL = 1e-5
"""Rate, and rate times gradient, below which rounding may remove a step."""


def _find_no_step(evidence: Evidence) -> Iterator[Finding]:
    findings = list(_without_backward(evidence)) or list(_find_unmoved(evidence))
    yield from findings or without_gradients(evidence)


def _without_backward(evidence: Evidence) -> Iterator[Finding]:
    """Steps that run the network but compute no gradient, and change nothing."""
    trial = evidence.trial
    if trial.gives_loss or trial.error is not None or trial.changed or any(row.raw for row in trial.rows):
        return
    source = evidence.setup.source
    remedy = "call it with parentheses, `loss.backward()`, before `optimizer.step()`"
    if source is not None and source.library is not None:
        remedy = "end `training_step` with `return loss`: Lightning skips the step where it returns None"
    yield Finding(
        code="optim.no-step",
        severity="error",
        where="the training step",
        measured=f"in {several(len(trial.rows), 'step')} there is no backward pass, and no parameter changes",
        threshold="no backward pass, and no parameter that changes, in the first steps",
        why="Nothing is learned: no gradients are computed.",
        remedy=remedy,
    )


def _find_unmoved(evidence: Evidence) -> Iterator[Finding]:
    """Parameters that are all unchanged after the trial, although there are gradients."""
    trial = evidence.trial
    if len(trial.rows) < FEWEST_TO_JUDGE:
        raise NoEvidence(f"fewer than {FEWEST_TO_JUDGE} steps ran: gradients may be accumulated over more batches")
    unchanged = unchanged_parameters(trial)
    if (
        not any(row.raw for row in trial.rows)
        or trial.changed_original
        or len(unchanged) < len(trial.replica.originals)
    ):
        return
    optimizer = {name for name in optimized(trial) if name in trial.replica.originals}
    made = sum(row.steps for row in trial.rows)
    if made and (not optimizer or not any(any(row.rates) for row in trial.rows)):
        return  # the optimizer holds none of them, or its rate is 0: other checks report that
    applied = max((row.applied for row in trial.rows if row.applied), default=0.0)
    rate = max((max(row.rates) for row in trial.rows if row.rates), default=0.0)
    if made and applied and min(rate, rate * applied) < _SMALL:
        return  # steps below the precision of the weights
    measured, remedy = _cause(trial, made, rate if applied else 0.0)
    yield Finding(
        code="optim.no-step",
        severity="error",
        where="the training step",
        measured=f"{measured}: after {several(len(trial.rows), 'step')} all "
        f"{several(len(unchanged), 'parameter is', 'parameters are')} unchanged",
        threshold=f"no parameter changed in {FEWEST_TO_JUDGE} steps or more, though there were gradients",
        why="Nothing is learned: gradients are computed but not used.",
        remedy=remedy,
    )


def _cause(trial: Trial, made: int, rate: float) -> tuple[str, str]:
    """What was measured, and the remedy. `made`: number of steps that the optimizer makes."""
    gradient = f"gradients have a norm of {next(row.raw for row in trial.rows if row.raw):.2g}"
    if made and rate:
        return (
            f"{gradient} and the optimizer steps with lr {rate:g}, but something restores the parameters",
            "Look for code that writes to the parameters after `optimizer.step()`: a `load_state_dict`, or a copy "
            "that is trained instead.",
        )
    if made:
        return (
            f"{gradient}, but they are cleared before the optimizer steps",
            "Call `optimizer.zero_grad()` before `loss.backward()`, not between it and `optimizer.step()`.",
        )
    return (
        f"{gradient}, but the optimizer never steps",
        "Call `optimizer.step()` after `loss.backward()`, on the optimizer of this network's parameters. If a "
        "condition or a gradient scaler may skip the step, print how often that happens.",
    )


NO_STEP = Check(
    codes=("optim.no-step",),
    run=_find_no_step,
    explains="data.labels-random model.collapsed model.graph-detached optim.lr-too-low fit.*",
)
