"""Checks of `loss.`, one folder for each property of the loss."""

from __future__ import annotations

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.checks.loss.counted.class_weights import CLASS_WEIGHTS
from striate.doctor.checks.loss.counted.ignored_class import IGNORED_CLASS
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.initial_off import INITIAL_OFF
from striate.doctor.checks.loss.not_finite import NOT_FINITE
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.sign.rivals import RIVALS
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.loss.task.divided_twice import DIVIDED_TWICE
from striate.doctor.checks.loss.task.term_scales import TERM_SCALES
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK

CHECKS: tuple[Check, ...] = (
    NOT_FINITE,
    WRONG_FOR_TASK,
    TERM_SCALES,
    DIVIDED_TWICE,
    CLASS_WEIGHTS,
    IGNORED_CLASS,
    PADDING_COUNTED,
    BROADCAST,
    SIGN,
    RIVALS,
    PAIRS_SWAPPED,
    DEGENERATE,
    INITIAL_OFF,
)
