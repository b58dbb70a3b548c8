"""How long a training takes: arithmetic between optimizer steps and wall-clock seconds, free of torch and clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

AIM = 0.975
"""Of the minutes asked for: between 10 % too early and 3 % too late, with room for a machine that slows down."""

_WHOLE = 0.97  # whole epochs where they fill this share of the time: every sample is then seen equally often


@dataclass(frozen=True)
class Phase:
    """A part of a training in which steps take equally long: its `share` of all steps, and `seconds` a step."""

    share: float
    seconds: float


@dataclass(frozen=True)
class Pace:
    """What a training costs in seconds: `phases`, in order, whose shares add up to 1; `validation` after each epoch of
    `epoch_steps` steps and after the last step; `start` once before the first step; `finish` once after the last."""

    phases: tuple[Phase, ...]
    validation: float
    epoch_steps: int
    start: float = 0.0
    finish: float = 0.0

    @property
    def step_seconds(self) -> float:
        """Mean of a step over the whole training."""
        return sum(phase.share * phase.seconds for phase in self.phases)

    def seconds(self, steps: int) -> float:
        """Of the whole training."""
        return self.start + self.seconds_before(steps, steps) + self.finish

    def seconds_before(self, step: int, steps: int) -> float:
        """Of the first `step` steps of `steps`, validations up to there included, without `start` and `finish`."""
        left, total = step / max(1, steps), 0.0
        for phase in self.phases:
            total += max(0.0, min(phase.share, left)) * steps * phase.seconds
            left -= phase.share
        validations = -(-step // self.epoch_steps) if step == steps else step // self.epoch_steps
        return total + validations * self.validation

    def steps_within(self, seconds: float) -> int:
        """The most optimizer steps that fit, at least 1: whole epochs where these fill 97 % of the time for steps and
        validations, since every sample is then seen equally often."""
        return self._whole_epochs(0, _largest(lambda steps: self.seconds(steps) <= seconds))

    def steps_from(self, done: int, seconds: float) -> int:
        """The same where so many steps are `done`, and those after them have these seconds, without `start` and
        `finish`; at least one more."""
        most = _largest(lambda steps: steps <= done + 1 or self._seconds_after(done, steps) <= seconds)
        return self._whole_epochs(done, most)

    def _whole_epochs(self, done: int, steps: int) -> int:
        whole = steps // self.epoch_steps * self.epoch_steps
        filled = whole > done and self._seconds_after(done, whole) >= _WHOLE * self._seconds_after(done, steps)
        return whole if filled else steps

    def _seconds_after(self, done: int, steps: int) -> float:
        return self.seconds_before(steps, steps) - self.seconds_before(done, steps)


def pace_from_json(values: Mapping[str, Any]) -> Pace:
    """The pace whose plain values these are."""
    return Pace(**{**values, "phases": tuple(Phase(**phase) for phase in values["phases"])})


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest whole number from 1 on that fits, where all below it do; 1 where none does."""
    high = 1
    while high < 2**40 and fits(2 * high):
        high *= 2
    low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
