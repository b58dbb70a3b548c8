"""Checks of `speed.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.speed import input_bound, slow_plan, small_batch, sync_every_step

CHECKS: tuple[Check, ...] = (
    input_bound.CHECK,
    sync_every_step.CHECK,
    small_batch.CHECK,
    slow_plan.CHECK,
)
