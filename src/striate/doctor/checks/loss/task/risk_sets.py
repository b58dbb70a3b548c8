"""A partial likelihood of durations and events with the wrong samples at risk."""

from __future__ import annotations

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.partial_likelihood import SAME, wrong_partial_likelihood

_DEVIATIONS = {
    "left before": "has the samples at risk that left before, instead of those that are still there",
    "as they come": "has the preceding samples in the batch at risk, whatever their durations",
    "censored": "has the right risk sets, but counts censored samples as events, instead of those that left",
}


def wrong_risk_sets(evidence: Evidence) -> Wrong | None:
    """A loss whose gradient is that of Cox's partial likelihood with the wrong samples at risk, or with the wrong
    samples counted as events."""
    try:
        found = wrong_partial_likelihood(evidence)
    except NoEvidence:
        return None
    if found is None or found.kind not in _DEVIATIONS:
        return None
    return Wrong(
        "error",
        "the gradient of the loss with respect to the outputs is that of a partial likelihood that "
        f"{_DEVIATIONS[found.kind]} (cosine {found.wrong:.3f}; with that of Cox's likelihood {found.right:.2f})",
        "Samples that leave are compared with the wrong others: the order of the risks is not learned, or is learned "
        "in reverse, with a concordance below one half.",
        "`order = durations.argsort(descending=True)`, then `at_risk = scores[order].logcumsumexp(0)` and "
        "`-((scores[order] - at_risk) * events[order]).sum() / events.sum()`",
        limit=f"the gradient (cosine {SAME:g}) of a partial likelihood with the samples at risk that left before, or "
        "that precede in the batch, or with censored samples counted as events",
    )
