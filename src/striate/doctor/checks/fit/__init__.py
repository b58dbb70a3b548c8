"""Checks of `fit.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check

CHECKS: tuple[Check, ...] = ()
