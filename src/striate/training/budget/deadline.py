"""The time that a run still takes, and its deadline: fewer steps where steps become slower, more where they become
faster."""

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

_SPEED_SECONDS = 30.0  # seconds over which the current speed is measured
_FEWEST_SECONDS = 1.0  # seconds: fewer say nothing about the speed
_TELLING = 10.0  # seconds of measuring before a change is announced
_WORTH_SAYING = 0.1  # of the time, or of the steps: a larger change of the forecast is announced
_RARER = 2.0  # the next change has to be larger by this factor: a speed that swings would fill the terminal
_AT_LEAST = 10.0  # seconds: smaller changes are not announced


@dataclass
class TimeLeft:
    """The seconds left of a run, by the wall clock at each step, which may count from any origin."""

    pace: Pace
    """Seconds of its steps and validations as measured at the start."""
    steps: int
    """Steps of the whole run."""
    span: float = _SPEED_SECONDS
    """The current speed is that of the last `span` seconds."""
    _marks: deque[tuple[float, float]] = field(default_factory=deque)
    _factor: float = 1.0

    def after(self, step: int, clock: float) -> float:
        """Seconds left of the whole command, when `step` steps are done at `clock` seconds: the expected rest, times
        how much longer than expected the last half minute took."""
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
        """How many steps the run may have so that the rest after `step` takes at most these seconds, at the current
        speed; at least one more."""
        return self.pace.steps_from(step, (seconds - self._finish) / self._factor)

    def change(self, step: int, steps: int) -> None:
        """After `step` steps, the run has `steps` steps in all from now on."""
        shift = self.pace.seconds_before(step, steps) - self.pace.seconds_before(step, self.steps)
        self._marks = deque((clock, expected + shift) for clock, expected in self._marks)
        self.steps = steps

    @property
    def window(self) -> float:
        """Seconds over which the current speed is known."""
        return self._marks[-1][0] - self._marks[0][0] if self._marks else 0.0

    @property
    def _finish(self) -> float:
        return max(1.0, self._factor) * self.pace.finish  # a slower machine also measures and draws more slowly

    def _leave_out_a_pause(self, clock: float, expected: float) -> None:
        """Ignore a pause of more than half a span: it says nothing about the speed before or after it."""
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
    """The reader that watches the time of a run; None where the run is too short for its pace to have been measured."""
    known = read_forecast(run)
    if known is None:
        return None
    forecast, pace = known
    return TimeWatch(run, state, TimeLeft(pace, steps), forecast.seconds, announce)


@dataclass
class TimeWatch:
    """A reader of the event stream that keeps the time left. It announces a forecast that no longer holds, and writes
    it as the event `time-forecast`."""

    run: RunDirectory
    state: TrainingState
    """Its state, for the elapsed time."""
    time: TimeLeft
    """Computes the seconds left."""
    announced: float
    """The forecast that was announced last: seconds of the whole command."""
    announce: Callable[[str], None]
    """Gets a line of text."""
    left: float | None = None
    """Seconds left, as the progress line shows them. None before the first step."""
    announced_steps: int | None = None
    """The number of steps that was announced last. None: none yet."""
    worth: float = _WORTH_SAYING
    """A forecast is announced when it changes by more than this share."""

    def __call__(self, event: Event) -> None:
        """Note a step, or a new number of steps."""
        if isinstance(event, StepsChanged):
            self._take_note(event)
        if not isinstance(event, StepDone):
            return
        self.left = self.time.after(event.step, self.state.elapsed)
        total = self.state.elapsed + self.left
        if self.time.window >= _TELLING and abs(total - self.announced) > max(_AT_LEAST, self.worth * self.announced):
            pace = "slower" if total > self.announced else "faster"
            takes = f"about {duration(total)} in total, not {duration(self.announced)}"
            text = f"steps are {pace} than measured at the start: the run takes {takes}"
            self.announce(text)
            append_event(
                self.run, "time-forecast", seconds=round(total, 1), before=round(self.announced, 1), step=event.step
            )
            self.announced = total
            self.worth *= _RARER

    def _take_note(self, event: StepsChanged) -> None:
        self.time.change(event.step, event.steps)
        before = self.announced_steps or event.before
        if abs(event.steps - before) > self.worth * before:
            self.announce(str(replace(event, before=before)))
            before = event.steps
            self.worth *= _RARER
        self.announced_steps = before


_LATEST, _EARLIEST = 0.99, 0.94  # of the requested time: in between, the steps stay
_WINDOW = 0.1  # of the requested time, over which the current speed is measured
_PATIENCE = 0.05  # of the requested time, before the first change and between two changes
_SHORTEST, _LONGEST = 2.0, 30.0  # limits of that time in seconds


@dataclass
class Deadline:
    """Changes the number of steps so that a run ends in time, by what steps take now."""

    time: TimeLeft
    """Computes the seconds left."""
    seconds: float
    """Seconds from the request to the end of the run."""
    _not_before: float = 0.0

    def change(self, config: Config, step: int, elapsed: float) -> StepsChanged | None:
        """The change when `step` steps are done, `elapsed` seconds after the user's request; None where nothing
        changes."""
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
    """The deadline of a run of `steps` steps at `pace`, `seconds` after the request."""
    return Deadline(TimeLeft(pace, steps, max(2 * _SHORTEST, _WINDOW * seconds)), seconds)
