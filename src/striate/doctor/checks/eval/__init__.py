"""Checks of `eval.`: what the user's evaluation computes, by its code."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.eval.best_epoch.worst_kept import WORST_KEPT
from striate.doctor.checks.eval.counts.wrong_count import WRONG_COUNT
from striate.doctor.checks.eval.mode import MODE
from striate.doctor.checks.eval.ranked_by_batch import RANKED_BY_BATCH
from striate.doctor.checks.eval.self_as_neighbor import SELF_AS_NEIGHBOR
from striate.doctor.checks.eval.shuffled_order import SHUFFLED_ORDER
from striate.doctor.checks.eval.teacher_forcing import TEACHER_FORCING
from striate.doctor.checks.eval.threshold import THRESHOLD
from striate.doctor.checks.eval.wrong_axis import WRONG_AXIS

CHECKS: tuple[Check, ...] = (
    MODE,
    TEACHER_FORCING,
    WRONG_AXIS,
    THRESHOLD,
    WRONG_COUNT,
    BATCH_MEANS,
    RANKED_BY_BATCH,
    WORST_KEPT,
    SELF_AS_NEIGHBOR,
    SHUFFLED_ORDER,
)
