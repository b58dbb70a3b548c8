"""All checks: the cheap and certain first."""

from __future__ import annotations

from striate.doctor.checks import data, eval, fit, loss, model, optim, reward, speed
from striate.doctor.checks.check import Check

GROUPS = (data, loss, reward, model, optim, eval, fit, speed)


def every_check() -> tuple[Check, ...]:
    """Quick ones first, in the order of the groups; then those that need trials of their own."""
    checks = [check for group in GROUPS for check in group.CHECKS]
    return tuple(sorted(checks, key=lambda check: not check.quick))
