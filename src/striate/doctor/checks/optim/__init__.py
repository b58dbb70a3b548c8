"""Checks of `optim.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim import (
    clip_too_small,
    gradient_wrong,
    lr_schedule,
    lr_too_high,
    lr_too_low,
    missing_zero_grad,
    no_step,
    parameters_missing,
    weight_decay_too_high,
)

CHECKS: tuple[Check, ...] = (
    no_step.CHECK,
    missing_zero_grad.CHECK,
    gradient_wrong.CHECK,
    parameters_missing.CHECK,
    clip_too_small.CHECK,
    lr_schedule.CHECK,
    weight_decay_too_high.CHECK,
    lr_too_high.CHECK,
    lr_too_low.CHECK,
)
