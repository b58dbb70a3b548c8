"""`loss.sign`: a loss with the wrong sign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.degenerate.unbounded import falls_in_all_directions
from striate.doctor.checks.loss.sign.added_scores import score_added
from striate.doctor.checks.loss.sign.distances_as_scores import DEVIATIONS, distances_asked
from striate.doctor.checks.loss.sign.paired_quantities import higher_with_own_targets
from striate.doctor.checks.loss.sign.right_predictions import ADDED, DEARER, SURE, SURER, higher_if_right
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import STEPS, Evidence
from striate.doctor.evidence.partial_likelihood import SAME, wrong_partial_likelihood
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.quality import Quality
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_gradient
from striate.records import Finding
from striate.wording import percent, several

_WORSE = 1.02
_BETTER = 0.98


def _maximized(evidence: Evidence) -> Finding | None:
    """The finding for losses of torch that each step of the optimizer makes larger; None where networks train against
    each other."""
    losses = [call for call in evidence.calls.losses if call.gradients]
    curve = evidence.trial.losses
    if evidence.trial.maximizes or not curve or evidence.trial.level() > curve[0]:
        return None  # the optimizer or the step itself goes up the gradient
    if evidence.setup.rivals or not losses or not all(sum(call.gradients) < 0 for call in losses):
        return None
    names = " and ".join(dict.fromkeys(f"`{call.name}`" for call in losses))
    return SIGN.finding(
        severity="error",
        where="the loss",
        measured=f"the step calls backward on a loss whose derivative with respect to {names} is "
        f"{sum(losses[0].gradients):.3g}, below zero: a step down the gradient makes {names} larger",
        limit="a derivative below zero with respect to each of torch's losses in the step",
        why="Each step makes the predictions worse, although the printed loss falls without end.",
        remedy="change the sign, `(-loss).backward()`, or remove the minus before the loss",
    )


def _find_sign(evidence: Evidence) -> Iterator[Finding]:
    finding = _maximized(evidence)
    if finding is not None:
        yield finding
        return
    rules = (_unlikely, _worse, _bounded_above, _of_distances, _higher_if_right, _added, _higher_with_own_targets)
    yield from islice(chain.from_iterable(rule(evidence) for rule in rules), 1)


def _unlikely(evidence: Evidence) -> Iterator[Finding]:
    with suppress(NoEvidence):
        found = None if evidence.trial.maximizes else wrong_partial_likelihood(evidence)
        if found is not None and found.kind == "maximized":
            yield SIGN.finding(
                severity="error",
                where="the loss",
                measured="the gradient of the loss with respect to the outputs is that of Cox's partial likelihood of "
                f"durations and events, but with the sign reversed (cosine {-found.wrong:.3f})",
                limit=f"a gradient that is the reversed one of Cox's partial likelihood (cosine -{SAME:g})",
                why="Training minimizes the likelihood: samples that leave last get the highest risk.",
                remedy="put a minus before it: `-((scores - at_risk) * events).sum() / events.sum()`",
            )


def _bounded_above(evidence: Evidence) -> Iterator[Finding]:
    with suppress(NoEvidence):
        if (measured := falls_in_all_directions(evidence)) is not None:
            yield SIGN.finding(
                severity="error",
                where="the loss",
                measured=measured,
                limit="a loss below zero in all steps that falls without end in whichever direction the outputs grow",
                why="A loss has a lower bound, that of right predictions. This one has an upper bound, like a "
                "log-likelihood, and each step makes the observed data less likely.",
                remedy="put a minus before it: `return -loglik.mean()`",
            )


def _of_distances(evidence: Evidence) -> Iterator[Finding]:
    measured = None if evidence.setup.rivals else distances_asked(evidence)
    if measured is not None:
        yield SIGN.finding(
            severity="error",
            where="the loss",
            measured=measured,
            limit="an input of cross entropy without values below 0, in which the right class has the lowest value "
            f"more often than by chance ({DEVIATIONS:g} standard deviations), and a trial that learns little",
            why="Distances are small if samples belong together, but cross entropy makes the value of the right class "
            "large.",
            remedy="pass the negative distances: `F.cross_entropy(-distances, labels)`",
        )


def _higher_with_own_targets(evidence: Evidence) -> Iterator[Finding]:
    found = None if evidence.setup.rivals else higher_with_own_targets(evidence)
    if found is not None:
        pair, right, other = found
        yield SIGN.finding(
            severity="error",
            where="the loss",
            measured=f"the loss of the first batch is {right:.3g} with the targets in place of the output "
            f"`{pair.name}`, and at most {other:.3g} with the targets of other samples",
            limit="a loss that is higher with an output's own targets in its place than with those of other samples",
            why="That part of the loss rewards wrong predictions: subtract a score from 1, or give it a minus.",
            remedy="change the sign of the part that grows with right predictions: `1 - iou` for `iou`",
        )


def _added(evidence: Evidence) -> Iterator[Finding]:
    """A score that the script's code adds to the loss; its effect may be too small to be measured."""
    found = None if evidence.setup.source is None else score_added(evidence.source)
    if found is not None:
        line, text = found
        yield SIGN.finding(
            severity="error",
            where=f"line {line}",
            measured=f"`{text}` is a loss, and adds a score that grows with better predictions",
            limit="a sum that is named a loss, to which a function named for a score (dice, IoU, …) adds its value "
            "without subtracting it from 1",
            why="That part of the loss rewards wrong predictions.",
            remedy="subtract the score from 1: `1 - dice` for `dice`",
        )


def _higher_if_right(evidence: Evidence) -> Iterator[Finding]:
    measured = higher_if_right(evidence)
    if measured is not None:
        yield SIGN.finding(
            severity="error",
            where="the loss",
            measured=measured,
            limit=f"a loss that is higher for right predictions of probability {SURE:g} than for the class "
            f"frequencies for every sample, and {DEARER:g} times as high for those of {SURER:g}; or a term "
            f"beside torch's losses that is higher for right outputs, by {percent(ADDED, 0)} of what these losses gain",
            why="The loss, or a part of it, rewards wrong predictions: subtract a score from 1, or give it a minus.",
            remedy="change the sign of the part that grows with right predictions: `1 - dice` for `dice`, "
            "`-likelihood` for `likelihood`",
        )


def _worse(evidence: Evidence) -> Iterator[Finding]:
    trial = evidence.trial
    if len(trial.rows) < 5:
        return
    if not predicts_targets(evidence):
        yield from _pulls_apart(evidence)
        return
    start = _quality(evidence, None)
    after = _quality(evidence, trial)
    if start is None or after is None or after.loss <= _WORSE * start.loss:  # NaN is worse, too
        return
    if start.accuracy is not None and (after.accuracy or 0.0) > max(start.accuracy, after.common) + 0.02:
        return
    reversed_trial = evidence.variant("gradients reversed", Change(prepare=reverse_gradients), steps=STEPS)
    better = _quality(evidence, reversed_trial)
    if reversed_trial.error is not None or better is None or not better.loss < _BETTER * start.loss:
        return
    maximizes = trial.maximizes
    name = {"classes": "cross entropy", "labels": "binary cross entropy"}.get(after.kind, "squared error")
    measured = (
        f"in {several(len(trial.rows), 'step')} the {name} of the predictions on training samples rises from "
        f"{start.loss:.3g} to {after.loss:.3g}{_share(start, after)}; with all gradients reversed it falls to "
        f"{better.loss:.3g}{_share(start, better)}"
    )
    evidence.pictures["loss.sign"] = Picture(
        "lines",
        "The loss that the step gave",
        {"unchanged": tuple(trial.losses), "reversed": tuple(reversed_trial.losses)},
    )
    remedy = (
        "create the optimizer without `maximize=True`, or have its own step go down the gradient"
        if maximizes
        else "change the sign of the loss, `loss = -loss` before `loss.backward()`, or remove the minus in it"
    )
    yield SIGN.finding(
        severity="error",
        where="the optimizer" if maximizes else "the loss",
        measured=measured,
        limit=f"a metric of the predictions that worsens by {percent(_WORSE - 1, 0)} or more over the trial and "
        f"improves by {percent(1 - _BETTER, 0)} or more with gradients reversed",
        why="Each step goes uphill: it makes the predictions worse.",
        remedy=remedy,
    )


def reverse_gradients(replica: Replica) -> None:
    """Negate every gradient of the replica's parameters."""
    for parameter in replica.model.parameters():
        if parameter.requires_grad and isinstance(parameter, nn.Parameter):
            change_gradient(parameter, lambda gradient: -gradient)


_TOGETHER, _APART = 0.1, -0.15
"""Rank correlations of distances; an untrained network has 0.3 to 0.9."""


def _pulls_apart(evidence: Evidence) -> Iterator[Finding]:
    """Embeddings of similar inputs that end far apart, and of different inputs that end together, but not with the
    gradients reversed."""
    inputs = evidence.first.shown
    if inputs is None or not inputs.is_floating_point() or len(inputs) < 16 or len(evidence.trial.rows) < 40:
        return
    before = _rank_correlation(evidence, evidence.fresh, inputs)
    after = _rank_correlation(evidence, evidence.trial.replica, inputs)
    if before is None or after is None or before < _TOGETHER or after > _APART:
        return
    reversed_trial = evidence.variant("gradients reversed", Change(prepare=reverse_gradients))
    other = _rank_correlation(evidence, reversed_trial.replica, inputs)
    if reversed_trial.error is not None or other is None or other < _TOGETHER:
        return
    yield SIGN.finding(
        severity="error",
        where="the loss",
        measured=f"distances between embeddings and between inputs have a rank correlation of {before:.2f} at first, "
        f"{after:.2f} after {several(len(evidence.trial.rows), 'step')}, and {other:.2f} with all gradients reversed",
        limit=f"a rank correlation above {_TOGETHER:g} at first and with gradients reversed, and below {_APART:g} "
        "after the trial",
        why="The loss pushes similar samples apart and pulls different ones together.",
        remedy="exchange positive and negative, or equal and different: `criterion(anchor, positive, negative)`; "
        "`label * distance**2 + (1 - label) * (margin - distance).clamp(min=0)**2`, where label 1 means equal",
    )


def _rank_correlation(evidence: Evidence, replica: Replica, inputs: torch.Tensor) -> float | None:
    """The rank correlation of distances between embeddings and between inputs; None where outputs are no embeddings."""
    with suppress(NoEvidence):
        outputs = predict(evidence.setup, replica, evidence.train.raw[:1]).outputs
        if outputs.ndim != 2 or outputs.shape[1] < 2 or len(outputs) != len(inputs):
            return None
        ranks = [torch.pdist(t.detach().cpu().double().flatten(1)).argsort().argsort() for t in (outputs, inputs)]
        return float(torch.corrcoef(torch.stack(ranks).double())[0, 1])
    return None


def _quality(evidence: Evidence, trial: Trial | None) -> Quality | None:
    if trial is None:
        predictions = evidence.start_training
    elif trial is evidence.trial:
        predictions = evidence.after_training
    else:
        predictions = evidence.in_training(trial.replica)
    return predictions.quality


def _share(start: Quality, after: Quality) -> str:
    if start.accuracy is None or after.accuracy is None:
        return ""
    return f" (accuracy: {percent(start.accuracy, 0)} to {percent(after.accuracy, 0)})"


SIGN = Check(
    codes=("loss.sign",),
    run=_find_sign,
    explains=(
        "loss.degenerate loss.initial-off loss.not-finite model.collapsed model.dead-units "
        "model.exploding-gradient model.saturated optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
