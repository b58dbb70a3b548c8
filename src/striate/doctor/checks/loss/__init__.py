"""Checks of `loss.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss import broadcast, degenerate, initial_off, not_finite, sign, wrong_for_task

CHECKS: tuple[Check, ...] = (
    not_finite.CHECK,
    wrong_for_task.CHECK,
    broadcast.CHECK,
    sign.CHECK,
    degenerate.CHECK,
    initial_off.CHECK,
)
