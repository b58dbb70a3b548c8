"""The time of a training: arithmetic between optimizer steps and wall-clock seconds, free of torch and clocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

AIM = 0.975
"""Share of the requested time that a run aims at: it may end 10 % early or 3 % late, and machines slow down."""

_WHOLE = 0.97  # whole epochs are taken where they fill this share of the time: all samples are then seen equally often


@dataclass(frozen=True)
class Phase:
    """A part of a training in which steps take equally long."""

    share: float
    """Share of all steps."""
    seconds: float
    """Seconds per step."""


@dataclass(frozen=True)
class Pace:
    """What a training costs in seconds."""

    phases: tuple[Phase, ...]
    """In order; their shares add up to 1."""
    validation: float
    """Seconds of the validation after each epoch and after the last step."""
    epoch_steps: int
    """Steps of an epoch."""
    start: float = 0.0
    """Seconds once, before the first step."""
    finish: float = 0.0
    """Seconds once, after the last validation."""

    @property
    def step_seconds(self) -> float:
        """Mean seconds per step over the whole training."""
        return sum(phase.share * phase.seconds for phase in self.phases)

    def seconds(self, steps: int) -> float:
        """Seconds of the whole training."""
        return self.start + self.seconds_before(steps, steps) + self.finish

    def seconds_before(self, step: int, steps: int) -> float:
        """Seconds of the first `step` of `steps` steps and of the validations among them, without `start` and
        `finish`."""
        left, total = step / max(1, steps), 0.0
        for phase in self.phases:
            total += max(0.0, min(phase.share, left)) * steps * phase.seconds
            left -= phase.share
        validations = -(-step // self.epoch_steps) if step == steps else step // self.epoch_steps
        return total + validations * self.validation

    def steps_within(self, seconds: float) -> int:
        """The most optimizer steps that fit into these seconds, at least 1. Whole epochs where they fill 97 % of the
        time for steps and validations: all samples are then seen equally often."""
        return self._whole_epochs(0, _largest(lambda steps: self.seconds(steps) <= seconds))

    def steps_from(self, done: int, seconds: float) -> int:
        """Like `steps_within` after `done` steps, where these seconds are left without `start` and `finish`; at least
        one more step."""
        most = _largest(lambda steps: steps <= done + 1 or self._seconds_after(done, steps) <= seconds)
        return self._whole_epochs(done, most)

    def _whole_epochs(self, done: int, steps: int) -> int:
        whole = steps // self.epoch_steps * self.epoch_steps
        filled = whole > done and self._seconds_after(done, whole) >= _WHOLE * self._seconds_after(done, steps)
        return whole if filled else steps

    def _seconds_after(self, done: int, steps: int) -> float:
        return self.seconds_before(steps, steps) - self.seconds_before(done, steps)


def pace_from_json(values: Mapping[str, Any]) -> Pace:
    """The pace with these plain values."""
    return Pace(**{**values, "phases": tuple(Phase(**phase) for phase in values["phases"])})


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest whole number from 1 on that fits, where all smaller ones do; 1 where none fits."""
    high = 1
    while high < 2**40 and fits(2 * high):
        high *= 2
    low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
