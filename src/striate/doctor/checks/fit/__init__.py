"""Checks of `fit.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit.generalization import OVERFIT, UNDERFIT
from striate.doctor.checks.fit.stagnation import CANNOT_OVERFIT_BATCH, PLATEAU

CHECKS: tuple[Check, ...] = (
    CANNOT_OVERFIT_BATCH,
    PLATEAU,
    UNDERFIT,
    OVERFIT,
)
