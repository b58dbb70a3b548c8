"""The learning rate as a pure function of the step, so that a resumed run needs no schedule state."""

from __future__ import annotations

import math

from striate.training.config import ScheduleConfig

_START = 1 / 25  # of the peak; where one-cycle begins (Smith and Topin 2018)
USUAL_WARMUP = 0.2


def learning_rate_factor(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """Share of the peak rate for the optimizer step `step` (0 to steps − 1) of `steps`.

    `one-cycle`: cosine up from 1/25 to the peak over `warmup`, cosine down to `final` (Smith and Topin 2018).
    `cosine`: linear up over `warmup`, cosine down to `final` (Loshchilov and Hutter 2016).
    `triangle`: linear up over `warmup`, linear down to `final`.
    `step`: times `factor` at each milestone. `constant`: 1.
    """
    assert schedule.name is not None, "recipes decide it"
    progress = step / max(1, steps - 1)
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "step":
        passed = sum(step >= math.ceil(m * steps) for m in schedule.milestones)
        return schedule.factor**passed
    warmup = USUAL_WARMUP if schedule.warmup is None else schedule.warmup
    if progress < warmup:
        rise = progress / warmup
        if schedule.name == "one-cycle":
            rise = (1 - math.cos(math.pi * rise)) / 2
        return _START + (1 - _START) * rise
    fall = (progress - warmup) / (1 - warmup)
    left = 1 - fall if schedule.name == "triangle" else (1 + math.cos(math.pi * fall)) / 2
    return schedule.final + (1 - schedule.final) * left
