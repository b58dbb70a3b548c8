"""`loss.wrong-for-task`: does the loss fit the task and its targets?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.task.alignments import wrong_alignment
from striate.doctor.checks.loss.task.divergences import divergence_from_scores, divergence_of_scores, exchanged
from striate.doctor.checks.loss.task.few_counted import few_counted
from striate.doctor.checks.loss.task.kinds_of_targets import (
    class_numbers,
    classes_for_numbers,
    exclusive,
    first_label_only,
    likelihood_of_scores,
    one_output,
    outside_unit,
    rates_as_logarithms,
    smoothed_away,
    softmax_for_several,
)
from striate.doctor.checks.loss.task.raised import raised_by_loss
from striate.doctor.checks.loss.task.renumbered import renumbered
from striate.doctor.checks.loss.task.reversed_quantiles import reversed_quantiles
from striate.doctor.checks.loss.task.risk_sets import wrong_risk_sets
from striate.doctor.checks.loss.task.scaled_down import scores_scaled_down
from striate.doctor.checks.loss.task.shared_among_classes import shared_among_classes
from striate.doctor.checks.loss.task.sigmoid_at_prediction import sigmoid_at_prediction
from striate.doctor.checks.loss.task.usual_gradient import teaches_nothing
from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    raised = raised_by_loss(evidence)
    wrong = (
        Wrong("error", *raised, limit="a loss that raises an exception in the first step")
        if raised
        else wrong_risk_sets(evidence)
    )
    if wrong is None:
        results = (rule(evidence, call) for call in _calls(evidence) for rule in _RULES)
        wrong = next((one for one in results if one is not None), None) or wrong_alignment(evidence)
        if wrong is None or wrong.severity == "note":
            worse = few_counted(evidence) or reversed_quantiles(evidence) or renumbered(evidence)
            worse = (
                worse
                or scores_scaled_down(evidence)
                or rates_as_logarithms(evidence)
                or sigmoid_at_prediction(evidence)
            )
            wrong = worse or wrong or teaches_nothing(evidence) or shared_among_classes(evidence)
    if wrong is not None:
        yield WRONG_FOR_TASK.finding(
            severity=wrong.severity,
            where="the loss",
            measured=wrong.measured,
            limit=wrong.limit,
            why=wrong.why,
            remedy=wrong.remedy,
        )


def _calls(evidence: Evidence) -> list[LossCall]:
    """The calls of torch's losses in one step; where there are none, one call with the arguments of the user's loss."""
    if evidence.calls.losses:
        return evidence.calls.losses
    first = evidence.first
    if not isinstance(first.loss_outputs, torch.Tensor) or not isinstance(first.loss_targets, torch.Tensor):
        return []
    value = torch.tensor(float("nan") if first.loss is None else first.loss)
    return [LossCall("", first.loss_outputs.cpu(), first.loss_targets.cpu(), value)]


_RULES: tuple[Callable[[Evidence, LossCall], Wrong | None], ...] = (
    exchanged,
    one_output,
    smoothed_away,
    class_numbers,
    classes_for_numbers,
    softmax_for_several,
    likelihood_of_scores,
    outside_unit,
    exclusive,
    first_label_only,
    divergence_of_scores,
    divergence_from_scores,
)

WRONG_FOR_TASK = Check(
    codes=("loss.wrong-for-task",),
    run=_run,
    explains=(
        "data.label-range loss.degenerate loss.initial-off loss.not-finite loss.sign model.collapsed "
        "model.dead-units model.exploding-gradient model.vanishing-gradient optim.lr-too-high "
        "optim.lr-too-low optim.no-step fit.*"
    ),
)
