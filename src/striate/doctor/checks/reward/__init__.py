"""Checks of `reward.`: what a training does with rewards, by batches of transitions, or by a script's code and its
replay buffer."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.acting import NO_EXPLORATION, TRUNCATED_TERMINAL
from striate.doctor.checks.reward.batches import BATCHES
from striate.doctor.checks.reward.bootstrap import ENDLESS, TARGET_STALE, TERMINAL_LOST
from striate.doctor.checks.reward.policy_code import POLICY_CODE
from striate.doctor.checks.reward.policy_sign import POLICY_SIGN
from striate.doctor.checks.reward.recorded import RECORDED
from striate.doctor.checks.reward.rollouts import ROLLOUTS
from striate.doctor.checks.reward.stored_early import STORED_EARLY

CHECKS: tuple[Check, ...] = (
    BATCHES,
    RECORDED,
    STORED_EARLY,
    ROLLOUTS,
    TERMINAL_LOST,
    TRUNCATED_TERMINAL,
    TARGET_STALE,
    NO_EXPLORATION,
    ENDLESS,
    POLICY_SIGN,
    POLICY_CODE,
)
