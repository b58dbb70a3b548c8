"""The checks of a script's own run, in the order of their findings."""

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
from striate.doctor.checks.own_run.inputs import INPUTS_DIFFER, LEFT_IN_EVALUATION, NOT_FINITE
from striate.doctor.checks.own_run.rates import RATE_COMPOUNDS, RATE_STILL_RISES

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
