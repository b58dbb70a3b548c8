"""Checks of a script's own run after its first step; they run where no other check found anything."""

from __future__ import annotations

from striate.doctor.checks.own_run.all_checks import NETWORK_CHECKS, REWARD_CHECKS
from striate.doctor.checks.own_run.input_scale import INPUT_SCALE
from striate.doctor.checks.own_run.predictions import PREDICTION_CHECKS
from striate.doctor.evidence.own_run import OwnRun
from striate.records import Finding


def findings_of(run: OwnRun, *, of_rewards: bool = False) -> list[Finding]:
    """The first finding of each check of a script's own run; `of_rewards`: of a script that learns from rewards. Checks
    that fail are noted in the run."""
    found = list[Finding]()
    for check in REWARD_CHECKS if of_rewards else (*PREDICTION_CHECKS, *NETWORK_CHECKS, INPUT_SCALE):
        try:
            found += filter(None, [check.run(run)])
        except Exception as error:  # an unforeseen error in one check does not end the others
            run.failed[check.code] = f"the check itself failed: {type(error).__name__}: {error}"
    return found
