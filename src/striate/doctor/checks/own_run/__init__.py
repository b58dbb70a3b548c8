"""Checks of a script's own run after its first step; they run where no other check found anything."""

from __future__ import annotations

from striate.doctor.checks.own_run.copies import (
    AVERAGE_SELDOM_UPDATED,
    COPY_NEVER_CHANGES,
    TARGET_NEVER_CHANGES,
    TEMPLATE_EVALUATED,
)
from striate.doctor.checks.own_run.gradients import (
    ACTOR_NEVER_CHANGES,
    CLEARED_BEFORE_STEP,
    CRITIC_NEVER_CHANGES,
    CUT_OFF,
    NEVER_CLEARED,
    NOTHING_MOVES,
    WITHOUT_GRADIENT,
)
from striate.doctor.checks.own_run.input_scale import INPUT_SCALE, LATER_INPUTS
from striate.doctor.checks.own_run.inputs import INPUTS_DIFFER, LEFT_IN_EVALUATION, NOT_FINITE
from striate.doctor.checks.own_run.predictions import PREDICTION_CHECKS
from striate.doctor.checks.own_run.rates import RATE_COMPOUNDS, RATE_STILL_RISES
from striate.doctor.checks.own_run.target_scale import TARGET_SCALE
from striate.doctor.evidence.own_run import OwnRun
from striate.records import Finding

NETWORK_CHECKS = (
    NOT_FINITE,
    NEVER_CLEARED,
    WITHOUT_GRADIENT,
    INPUTS_DIFFER,
    COPY_NEVER_CHANGES,
    AVERAGE_SELDOM_UPDATED,
    TEMPLATE_EVALUATED,
    LEFT_IN_EVALUATION,
    NOTHING_MOVES,
    RATE_COMPOUNDS,
    RATE_STILL_RISES,
)
REWARD_CHECKS = (
    NOT_FINITE,
    NEVER_CLEARED,
    RATE_STILL_RISES,
    CUT_OFF,
    CLEARED_BEFORE_STEP,
    CRITIC_NEVER_CHANGES,
    TARGET_NEVER_CHANGES,
    ACTOR_NEVER_CHANGES,
)


def findings_of(run: OwnRun, *, of_rewards: bool = False) -> list[Finding]:
    """The first finding of each check of a script's own run; `of_rewards`: of a script that learns from rewards. Checks
    that fail are noted in the run."""
    found = list[Finding]()
    for check in (
        REWARD_CHECKS if of_rewards else (*PREDICTION_CHECKS, *NETWORK_CHECKS, INPUT_SCALE, LATER_INPUTS, TARGET_SCALE)
    ):
        try:
            found += filter(None, [check.run(run)])
        except Exception as error:  # an unforeseen error in one check does not end the others
            run.failed[check.code] = f"the check itself failed: {type(error).__name__}: {error}"
    return found
