"""A partial likelihood of durations and events with the wrong samples at risk."""

from __future__ import annotations

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.partial_likelihood import SAME, wrong_partial_likelihood

_SAID = {
    "left before": "those who left before, as they leave, in the place of those who are still there",
    "as they come": "those before them in the batch, whatever their durations",
    "censored": "the right risk sets, but for those who never were seen to leave, in the place of those who were",
}


def wrong_risk_sets(evidence: Evidence) -> Wrong | None:
    """A loss whose gradient is that of Cox's partial likelihood with other samples at risk, or of other ones."""
    try:
        found = wrong_partial_likelihood(evidence)
    except NoEvidence:
        return None
    if found is None or found.kind not in _SAID:
        return None
    return Wrong(
        "error",
        f"its gradient by the outputs is that of a partial likelihood of durations and events with {_SAID[found.kind]} "
        f"(cosine {found.wrong:.3f}; with that of Cox's {found.right:.2f})",
        "Who leaves is compared with the wrong ones: the order of the risks is not learned, or the other way round, "
        "with a concordance below one half.",
        "`order = durations.argsort(descending=True)`, then `at_risk = scores[order].logcumsumexp(0)` and "
        "`-((scores[order] - at_risk) * events[order]).sum() / events.sum()`",
        limit=f"a gradient that is Cox's (cosine {SAME:g}) with those at risk who left before, or in the order of the "
        "batch, or with those counted who were not seen to leave",
    )
