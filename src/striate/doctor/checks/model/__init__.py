"""Checks of `model.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check

CHECKS: tuple[Check, ...] = ()
