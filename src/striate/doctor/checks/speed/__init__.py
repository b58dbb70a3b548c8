"""Checks of `speed.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.speed.input_bound import INPUT_BOUND
from striate.doctor.checks.speed.slow_plan import SLOW_PLAN
from striate.doctor.checks.speed.small_batch import SMALL_BATCH
from striate.doctor.checks.speed.sync_every_step import SYNC_EVERY_STEP

CHECKS: tuple[Check, ...] = (
    INPUT_BOUND,
    SYNC_EVERY_STEP,
    SMALL_BATCH,
    SLOW_PLAN,
)
