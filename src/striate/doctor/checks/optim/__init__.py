"""Checks of `optim.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.accumulation import ACCUMULATION, CLEARED, UNDIVIDED
from striate.doctor.checks.optim.clip_order import CHECK as CLIP_ORDER
from striate.doctor.checks.optim.clip_too_small import CLIP_TOO_SMALL
from striate.doctor.checks.optim.gradient_wrong import GRADIENT_WRONG
from striate.doctor.checks.optim.low_precision import LOW_PRECISION
from striate.doctor.checks.optim.lr_too_high import LR_TOO_HIGH
from striate.doctor.checks.optim.lr_too_low import LR_TOO_LOW
from striate.doctor.checks.optim.misplaced_arguments import MISPLACED
from striate.doctor.checks.optim.missing_zero_grad import MISSING_ZERO_GRAD
from striate.doctor.checks.optim.no_step import NO_STEP
from striate.doctor.checks.optim.parameters_missing import PARAMETERS_MISSING
from striate.doctor.checks.optim.scaler_order import CHECK as SCALER_ORDER
from striate.doctor.checks.optim.schedule.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.schedule.scheduler_calls import CHECK as SCHEDULER_CALLS
from striate.doctor.checks.optim.state_lost import STATE_LOST
from striate.doctor.checks.optim.weight_decay_too_high import WEIGHT_DECAY_TOO_HIGH

CHECKS: tuple[Check, ...] = (
    NO_STEP,
    MISSING_ZERO_GRAD,
    GRADIENT_WRONG,
    PARAMETERS_MISSING,
    LOW_PRECISION,
    ACCUMULATION,
    CLEARED,
    UNDIVIDED,
    CLIP_ORDER,
    SCALER_ORDER,
    SCHEDULER_CALLS,
    STATE_LOST,
    MISPLACED,
    CLIP_TOO_SMALL,
    LR_SCHEDULE,
    WEIGHT_DECAY_TOO_HIGH,
    LR_TOO_HIGH,
    LR_TOO_LOW,
)
