"""Checks of `speed.`."""

from __future__ import annotations

from striate.doctor.checks.check import Check

CHECKS: tuple[Check, ...] = ()
