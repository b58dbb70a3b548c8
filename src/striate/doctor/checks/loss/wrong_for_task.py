"""loss.wrong-for-task: does the loss compute something else than what the task and its targets call for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.alignments import wrong_alignment
from striate.doctor.checks.loss.divergences import divergence_from_scores, divergence_of_scores, exchanged
from striate.doctor.checks.loss.few_counted import few_counted
from striate.doctor.checks.loss.flattened import SMALL, flattened
from striate.doctor.checks.loss.kinds_of_targets import (
    BETTER,
    class_numbers,
    classes_for_numbers,
    exclusive,
    likelihood_of_scores,
    one_output,
    outside_unit,
    rates_as_logarithms,
    smoothed_away,
)
from striate.doctor.checks.loss.raised import raised_by_loss
from striate.doctor.checks.loss.renumbered import RENUMBERED, renumbered
from striate.doctor.checks.loss.risk_sets import wrong_risk_sets
from striate.doctor.checks.loss.turned_quantiles import turned_quantiles
from striate.doctor.checks.loss.usual_gradient import GUESS, TAUGHT, teaches_nothing
from striate.doctor.checks.loss.wrong import Wrong
from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.partial_likelihood import SAME
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    raised = raised_by_loss(evidence)
    wrong = wrong_risk_sets(evidence) if raised is None else Wrong("error", *raised)
    if wrong is None:
        found = (rule(evidence, call) for call in _calls(evidence) for rule in _RULES)
        wrong = next((one for one in found if one is not None), None) or wrong_alignment(evidence)
        if wrong is None or wrong.severity == "note":
            seen = few_counted(evidence) or turned_quantiles(evidence) or renumbered(evidence) or flattened(evidence)
            wrong = seen or rates_as_logarithms(evidence) or wrong or teaches_nothing(evidence)
    if wrong is not None:
        yield WRONG_FOR_TASK.finding(
            severity=wrong.severity,
            where="the loss",
            measured=wrong.measured,
            why=wrong.why,
            remedy=wrong.remedy,
        )


def _calls(evidence: Evidence) -> list[LossCall]:
    """The calls of torch's losses in one step; where there are none, what the user's own loss was given."""
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
    likelihood_of_scores,
    outside_unit,
    exclusive,
    divergence_of_scores,
    divergence_from_scores,
)

WRONG_FOR_TASK = Check(
    codes=("loss.wrong-for-task",),
    question="Does the loss compute something else than what the task and its targets call for?",
    threshold="what the loss is given, looked at in one step, is exact: numbers of three or more classes compared as "
    "quantities, "
    "a likelihood of what are no log probabilities, cross entropy among one output or for quantities, targets outside "
    "0 to 1, a sixteenth of the samples, outputs in the place of targets, "
    f"classes at the outputs of other ones ({RENUMBERED:.0%} right once renumbered), a divergence from what is no "
    f"distribution, scores times {SMALL:g} or less without which the loss is smaller, "
    "ctc_loss of what are no log probabilities, or of inputs that are too short; poisson_nll_loss of rates where it "
    "takes their logarithms, or of numbers below 0 for rates; a loss of one's own that goes "
    f"{GUESS:.0%} of the way from a guess to right predictions at most, where the gradient of a usual loss goes "
    f"{TAUGHT:.0%} in as many steps; a gradient that is Cox's (cosine {SAME:g}) with those at risk who left before, or "
    "in the order of the batch, or with those counted who were not seen to leave; "
    "a gradient that asks for 1 minus the quantiles which the script lists; binary cross entropy for "
    f"exclusive classes warns where cross entropy gets {BETTER:.0%} more right",
    run=_run,
    explains=(
        "data.label-range loss.degenerate loss.initial-off loss.not-finite loss.sign model.collapsed "
        "model.dead-units model.exploding-gradient model.vanishing-gradient optim.lr-too-high "
        "optim.lr-too-low optim.no-step fit.*"
    ),
)
