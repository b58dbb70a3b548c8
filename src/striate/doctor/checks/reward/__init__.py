"""Checks of `reward.`: how a training uses rewards, according to batches of transitions, or to a script's code and
replay buffer."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.batches import BATCHES
from striate.doctor.checks.reward.endless import ENDLESS
from striate.doctor.checks.reward.no_exploration import NO_EXPLORATION
from striate.doctor.checks.reward.policy_code import POLICY_CODE
from striate.doctor.checks.reward.policy_sign import POLICY_SIGN
from striate.doctor.checks.reward.replay_buffer import REPLAY_BUFFER
from striate.doctor.checks.reward.rollouts import ROLLOUTS
from striate.doctor.checks.reward.stored_early import STORED_EARLY
from striate.doctor.checks.reward.target_stale import TARGET_STALE
from striate.doctor.checks.reward.terminal_lost import TERMINAL_LOST
from striate.doctor.checks.reward.truncated_terminal import TRUNCATED_TERMINAL

CHECKS: tuple[Check, ...] = (
    BATCHES,
    REPLAY_BUFFER,
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
