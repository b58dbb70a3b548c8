"""Minutes that are kept: fewer steps where they become slower than measured, more where they become faster."""

from __future__ import annotations

from dataclasses import dataclass, replace

from striate.training.config import Config
from striate.training.events import StepsChanged
from striate.training.pace import AIM, Pace
from striate.training.time_left import TimeLeft

_LATEST, _EARLIEST = 0.99, 0.94  # of the time asked for, between which the end may move
_WINDOW = 0.1  # of it, over which the speed of now is taken
_PATIENCE = 0.05  # of it, before anything follows from that speed, and again before the next change
_SHORTEST, _LONGEST = 2.0, 30.0  # seconds of that patience


@dataclass
class InTime:
    """Keeps a run that may take `seconds` in all, by what its steps take now. Fed with each step."""

    time: TimeLeft
    seconds: float
    _not_before: float = 0.0

    def change(self, config: Config, step: int, elapsed: float) -> StepsChanged | None:
        """What changes when `step` steps are done, `elapsed` seconds after the user's request; None where all stays."""
        total, before = elapsed + self.time.after(step, elapsed), self.time.steps
        if step >= before or elapsed < self._not_before or self.time.window < self._patience:
            return None
        if _EARLIEST * self.seconds <= total <= _LATEST * self.seconds:
            return None
        self._not_before = elapsed + self._patience
        steps = self.time.steps_within(AIM * self.seconds - elapsed, step)
        if steps == before:
            return None
        self.time.change(step, steps)
        budget = config.budget
        budget = replace(
            budget,
            steps=steps,
            epochs=-(-steps // self.time.pace.epoch_steps),
            steps_before=(*budget.steps_before, (step, before)),
        )
        return StepsChanged(step, before, steps, self.seconds, replace(config, budget=budget))

    @property
    def _patience(self) -> float:
        return min(_LONGEST, max(_SHORTEST, _PATIENCE * self.seconds))


def kept_in_time(pace: Pace, steps: int, seconds: float) -> InTime:
    """What keeps a run of `steps` steps at `pace` within `seconds`."""
    return InTime(TimeLeft(pace, steps, max(2 * _SHORTEST, _WINDOW * seconds)), seconds)
