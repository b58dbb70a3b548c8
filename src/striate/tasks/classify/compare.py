"""Two classifiers on the same samples: which of them is right where."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from striate.statistics.estimate import Estimate
from striate.statistics.intervals import sum_interval, wilson
from striate.statistics.paired import LEVEL, mcnemar, p_text
from striate.tasks.baseline import BaselineComparison, called, samples_word
from striate.tasks.figures import Gap
from striate.tasks.headline import judged_gap


def compare_hits(baseline: str, theirs: NDArray[np.bool_], ours: NDArray[np.bool_]) -> BaselineComparison:
    """How a network stands against the baseline of this name, from (N,) whether each is right: McNemar's exact test."""
    n = len(ours)
    ahead, behind = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    p, lead = mcnemar(ahead, behind), ahead - behind
    test = f"McNemar's exact test, p {p_text(p)}"
    samples = f"{n:,} test {samples_word(n)}"
    if lead == 0:
        sentence = f"The network does not beat {called(baseline)}: both are right on as many of {samples}."
    elif lead > 0 and p < LEVEL:
        sentence = (
            f"The network is right on {lead:,} more of {samples} than {called(baseline)}: more than noise ({test})."
        )
    else:
        how = f"{abs(lead):,} {'more' if lead > 0 else 'fewer'} of {samples}"
        noise = "more than noise" if p < LEVEL else "which noise alone may do"
        sentence = f"The network does not beat {called(baseline)}: it is right on {how}, {noise} ({test})."
    return BaselineComparison(baseline, lead, p, None, lead > 0 and p < LEVEL, sentence)


def gap_of_hits(train: NDArray[np.bool_], val: NDArray[np.bool_]) -> Gap:
    """The gap in accuracy between the splits, from (N,) whether each sample is right; Newcombe's interval."""
    shares = [Estimate(int(hits.sum()) / len(hits), wilson(int(hits.sum()), len(hits))) for hits in (train, val)]
    values = [share.value or 0.0 for share in shares]
    interval = sum_interval(values, [share.interval for share in shares if share.interval is not None], [1, -1])
    difference = Estimate(values[0] - values[1], interval)
    said = f"Training {100 * values[0]:.2f} %, validation {100 * values[1]:.2f} %: " + judged_gap(
        difference, 100, " points better"
    )
    return Gap("accuracy", shares[0], len(train), shares[1], len(val), difference, said)
