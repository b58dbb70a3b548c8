"""Checks of `fit.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.cannot_overfit_batch import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.fit.overfit import OVERFIT
from striate.doctor.checks.fit.plateau import PLATEAU
from striate.doctor.checks.fit.underfit import UNDERFIT

CHECKS: tuple[Check, ...] = (
    CANNOT_OVERFIT_BATCH,
    PLATEAU,
    UNDERFIT,
    OVERFIT,
)
