"""What is looked at in a script's own run, in the order in which it is told."""

from __future__ import annotations

from striate.doctor.checks.own_run.copies import (
    AVERAGE_SELDOM_UPDATED,
    COPY_NEVER_CHANGES,
    TARGET_NEVER_CHANGES,
    TEMPLATE_ASKED,
)
from striate.doctor.checks.own_run.gradients import (
    ACTOR_NEVER_CHANGES,
    CLEARED_BEFORE_STEP,
    CUT_OFF,
    NEVER_CLEARED,
    NOTHING_MOVES,
    TWIN_NEVER_CHANGES,
    WITHOUT_GRADIENT,
)
from striate.doctor.checks.own_run.inputs import INPUTS_APART, LEFT_IN_EVALUATION, NOT_FINITE
from striate.doctor.checks.own_run.rates import RATE_COMPOUNDS, RATE_STILL_RISES

OF_NETWORKS = (
    NOT_FINITE,
    NEVER_CLEARED,
    WITHOUT_GRADIENT,
    INPUTS_APART,
    COPY_NEVER_CHANGES,
    AVERAGE_SELDOM_UPDATED,
    TEMPLATE_ASKED,
    LEFT_IN_EVALUATION,
    NOTHING_MOVES,
    RATE_COMPOUNDS,
    RATE_STILL_RISES,
)
OF_REWARDS = (
    NOT_FINITE,
    NEVER_CLEARED,
    RATE_STILL_RISES,
    CUT_OFF,
    CLEARED_BEFORE_STEP,
    TWIN_NEVER_CHANGES,
    TARGET_NEVER_CHANGES,
    ACTOR_NEVER_CHANGES,
)
