"""loss.sign: does training make answers worse, and better with its gradients turned round?"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.answering import answers_targets
from striate.doctor.evidence.evidence import STEPS, Evidence
from striate.doctor.evidence.quality import Quality, quality
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.patient.copies import Double
from striate.records import Finding

_WORSE = 1.02
_BETTER = 0.98


def _run(evidence: Evidence) -> Iterator[Finding]:
    trial = evidence.trial
    if len(trial.rows) < 5 or not answers_targets(evidence):
        return
    start = _quality(evidence, None)
    after = _quality(evidence, trial)
    if start is None or after is None or after.loss <= _WORSE * start.loss:  # what is no number is worse, too
        return
    if start.accuracy is not None and (after.accuracy or 0.0) > max(start.accuracy, after.common) + 0.02:
        return
    turned = evidence.variant("gradients turned round", Change(prepare=turn_round), steps=STEPS)
    better = _quality(evidence, turned)
    if turned.error is not None or better is None or not better.loss < _BETTER * start.loss:
        return
    maximizes = any(group.get("maximize") for group in trial.double.optimizer.param_groups)
    name = {"classes": "cross entropy", "labels": "binary cross entropy"}.get(after.kind, "squared error")
    measured = (
        f"in {len(trial.rows)} steps the {name} of the answers on training samples went up from {start.loss:.3g} to "
        f"{after.loss:.3g}{_share(start, after)}; with all gradients turned round it went down to "
        f"{better.loss:.3g}{_share(start, better)}"
    )
    evidence.pictures["loss.sign"] = Picture(
        "lines", "The loss that the step gave", {"as it is": tuple(trial.losses), "turned round": tuple(turned.losses)}
    )
    remedy = (
        "make the optimizer without `maximize=True`"
        if maximizes
        else "turn the sign of the loss: `loss = -loss` before `loss.backward()`, or take the minus out of it"
    )
    yield Finding(
        code="loss.sign",
        severity="error",
        where="the optimizer" if maximizes else "the loss",
        measured=measured,
        threshold=CHECK.threshold,
        why="Each step goes uphill: it makes the network worse at what it is asked.",
        remedy=remedy,
    )


def turn_round(double: Double) -> None:
    """Have every gradient of the double come with the other sign."""
    for parameter in double.model.parameters():
        if parameter.requires_grad and isinstance(parameter, nn.Parameter):
            parameter.register_hook(lambda gradient: -gradient)


def _quality(evidence: Evidence, trial: Trial | None) -> Quality | None:
    if trial is None:
        answers = evidence.start_training
    elif trial is evidence.trial:
        answers = evidence.after_training
    else:
        answers = evidence.in_training(trial.double)
    return quality(answers.outputs, answers.targets)


def _share(start: Quality, after: Quality) -> str:
    if start.accuracy is None or after.accuracy is None:
        return ""
    return f" (right: {start.accuracy:.0%} to {after.accuracy:.0%})"


CHECK = Check(
    codes=("loss.sign",),
    question="Does training make the answers worse, and better with its gradients turned round?",
    threshold=f"the answers' own measure rises by {_WORSE - 1:.0%} or more over the trial and falls by "
    f"{1 - _BETTER:.0%} or more "
    "with gradients turned round: no rate and no network makes both happen, but a wrong sign",
    run=_run,
    quick=False,
    explains=(
        "loss.degenerate loss.initial-off loss.not-finite model.collapsed model.dead-units "
        "model.exploding-gradient model.saturated optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
