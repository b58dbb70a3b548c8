"""How long a run still takes, and its deadline: fewer steps where they become slower, more where they become faster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from striate.runs.directory import RunDirectory
from striate.runs.events import append_event
from striate.training.budget.forecast import read_forecast
from striate.training.budget.pace import AIM, Pace
from striate.training.config import Config
from striate.training.events import Event, StepDone, StepsChanged
from striate.training.state import TrainingState
from striate.wording import duration

_SPEED_SECONDS = 30.0  # seconds over which the speed of now is taken
_FEWEST_SECONDS = 1.0  # seconds: less says nothing
_TELLING = 10.0  # seconds: less is no reason to say that the end will come later
_WORTH_SAYING = 0.1  # of the whole time, or of the steps: a forecast that moved by more is told
_RARER = 2.0  # the next one has to move further by this factor: lines of a speed that swings would hide all others
_AT_LEAST = 10.0  # seconds that it moved


@dataclass
class TimeLeft:
    """Seconds left of a run of `steps` steps at `pace`. Fed with the wall clock at each step, in any origin; the speed
    of now is that of the last `span` seconds."""

    pace: Pace
    steps: int
    span: float = _SPEED_SECONDS
    _marks: deque[tuple[float, float]] = field(default_factory=deque)
    _factor: float = 1.0

    def after(self, step: int, clock: float) -> float:
        """Of the whole command, when `step` steps are done at `clock` seconds: what is expected for the rest, times how
        much longer than expected the last half minute took."""
        expected = self.pace.seconds_before(step, self.steps)
        if step % self.pace.epoch_steps == 0 or step == self.steps:
            expected -= self.pace.validation  # it comes after this step
        self._leave_out_a_pause(clock, expected)
        if not self._marks or clock - self._marks[-1][0] >= self.span / 100:
            self._marks.append((clock, expected))
        while len(self._marks) > 2 and clock - self._marks[1][0] >= self.span:
            self._marks.popleft()
        self._factor = self._slowdown(clock, expected)
        return self._factor * (self.pace.seconds_before(self.steps, self.steps) - expected) + self._finish

    def steps_within(self, seconds: float, step: int) -> int:
        """How many steps the run may have so that what is left after `step`, at the speed of now, takes these seconds
        at most; at least one more."""
        return self.pace.steps_from(step, (seconds - self._finish) / self._factor)

    def change(self, step: int, steps: int) -> None:
        """After `step` steps the run has so many steps instead."""
        shift = self.pace.seconds_before(step, steps) - self.pace.seconds_before(step, self.steps)
        self._marks = deque((clock, expected + shift) for clock, expected in self._marks)
        self.steps = steps

    @property
    def window(self) -> float:
        """Seconds over which the speed of now is known."""
        return self._marks[-1][0] - self._marks[0][0] if self._marks else 0.0

    @property
    def _finish(self) -> float:
        return max(1.0, self._factor) * self.pace.finish  # a slower machine also measures and draws more slowly

    def _leave_out_a_pause(self, clock: float, expected: float) -> None:
        """Where the process stood still for half a span, that says nothing of the speed before or after it."""
        if self._marks:
            since, then = self._marks[-1]
            lost = clock - since - self._factor * (expected - then)
            if lost > self.span / 2:
                self._marks = deque((mark + lost, known) for mark, known in self._marks)

    def _slowdown(self, clock: float, expected: float) -> float:
        since, then = self._marks[0]
        if clock - since < _FEWEST_SECONDS or expected <= then:
            return 1.0
        return (clock - since) / (expected - then)


def time_watch(
    run: RunDirectory, state: TrainingState, steps: int, announce: Callable[[str], None]
) -> TimeWatch | None:
    """What watches over the time of a run; None where it is too short for its pace to have been measured."""
    known = read_forecast(run)
    if known is None:
        return None
    forecast, pace = known
    return TimeWatch(run, state, TimeLeft(pace, steps), forecast.seconds, announce)


@dataclass
class TimeWatch:
    """A reader of the event stream: `left` is what a progress line shows. A forecast that no longer holds is told to
    `announce` and written as the event `time-forecast`."""

    run: RunDirectory
    state: TrainingState
    time: TimeLeft
    told: float
    announce: Callable[[str], None]
    left: float | None = None
    told_steps: int | None = None
    worth: float = _WORTH_SAYING

    def __call__(self, event: Event) -> None:
        """Take note of a step, or of another number of them."""
        if isinstance(event, StepsChanged):
            self._take_note(event)
        if not isinstance(event, StepDone):
            return
        self.left = self.time.after(event.step, self.state.elapsed)
        total = self.state.elapsed + self.left
        if self.time.window >= _TELLING and abs(total - self.told) > max(_AT_LEAST, self.worth * self.told):
            pace = "slower" if total > self.told else "faster"
            takes = f"about {duration(total)} in total, not {duration(self.told)}"
            text = f"steps are {pace} than measured at the start: the run takes {takes}"
            self.announce(text)
            append_event(
                self.run, "time-forecast", seconds=round(total, 1), before=round(self.told, 1), step=event.step
            )
            self.told = total
            self.worth *= _RARER

    def _take_note(self, event: StepsChanged) -> None:
        self.time.change(event.step, event.steps)
        before = self.told_steps or event.before
        if abs(event.steps - before) > self.worth * before:
            self.announce(str(replace(event, before=before)))
            before = event.steps
            self.worth *= _RARER
        self.told_steps = before


_LATEST, _EARLIEST = 0.99, 0.94  # of the time asked for, between which the end may move
_WINDOW = 0.1  # of it, over which the speed of now is taken
_PATIENCE = 0.05  # of it, before anything follows from that speed, and again before the next change
_SHORTEST, _LONGEST = 2.0, 30.0  # seconds of that patience


@dataclass
class Deadline:
    """Changes the number of steps of a run so that it ends within `seconds`, by what steps take now."""

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


def deadline_for(pace: Pace, steps: int, seconds: float) -> Deadline:
    """What keeps a run of `steps` steps at `pace` within `seconds`."""
    return Deadline(TimeLeft(pace, steps, max(2 * _SHORTEST, _WINDOW * seconds)), seconds)
