"""Checks of `reward.`: what a training does with rewards, by batches of transitions, or by a script's code and its
replay buffer."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.batches import BATCHES
from striate.doctor.checks.reward.endless import ENDLESS
from striate.doctor.checks.reward.no_exploration import NO_EXPLORATION
from striate.doctor.checks.reward.policy_code import POLICY_CODE
from striate.doctor.checks.reward.policy_sign import POLICY_SIGN
from striate.doctor.checks.reward.recorded import RECORDED
from striate.doctor.checks.reward.rollouts import ROLLOUTS
from striate.doctor.checks.reward.stored_early import STORED_EARLY
from striate.doctor.checks.reward.target_stale import TARGET_STALE
from striate.doctor.checks.reward.terminal_lost import TERMINAL_LOST
from striate.doctor.checks.reward.truncated_terminal import TRUNCATED_TERMINAL

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
