"""Checks of `eval.`: what the user's evaluation computes, by its code."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT
from striate.doctor.checks.eval.finds_itself import FINDS_ITSELF
from striate.doctor.checks.eval.kept.worst_kept import WORST_KEPT
from striate.doctor.checks.eval.mode import MODE
from striate.doctor.checks.eval.ranked_by_batch import RANKED_BY_BATCH
from striate.doctor.checks.eval.shuffled_apart import SHUFFLED_APART
from striate.doctor.checks.eval.threshold import THRESHOLD
from striate.doctor.checks.eval.wrong_axis import WRONG_AXIS

CHECKS: tuple[Check, ...] = (
    MODE,
    WRONG_AXIS,
    THRESHOLD,
    WRONG_COUNT,
    BATCH_MEANS,
    RANKED_BY_BATCH,
    WORST_KEPT,
    FINDS_ITSELF,
    SHUFFLED_APART,
)
