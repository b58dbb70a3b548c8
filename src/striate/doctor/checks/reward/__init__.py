"""Checks of `reward.`: what a script that learns from rewards does with them, by its code and its replay buffer."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.acting import NO_EXPLORATION, TRUNCATED_TERMINAL
from striate.doctor.checks.reward.bootstrap import DIVERGES_WITHOUT_END, TARGET_STALE, TERMINAL_LOST
from striate.doctor.checks.reward.recorded import RECORDED

CHECKS: tuple[Check, ...] = (
    RECORDED,
    TERMINAL_LOST,
    TRUNCATED_TERMINAL,
    TARGET_STALE,
    NO_EXPLORATION,
    DIVERGES_WITHOUT_END,
)
