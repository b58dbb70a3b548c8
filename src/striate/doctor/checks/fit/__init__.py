"""Checks of `fit.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.fit import cannot_overfit_batch, overfit, plateau, underfit

CHECKS: tuple[Check, ...] = (
    cannot_overfit_batch.CHECK,
    plateau.CHECK,
    underfit.CHECK,
    overfit.CHECK,
)
