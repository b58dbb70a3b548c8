"""The time left follows what steps take now, and a forecast that no longer holds is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from striate.runs.directory import RunDirectory, read_plan_summary
from striate.runs.files import write_json
from striate.training.budget.deadline import TimeLeft, TimeWatch, time_watch
from striate.training.budget.forecast import Forecast, ShortTraining, duration, read_forecast, write_forecast
from striate.training.budget.pace import Pace, Phase
from striate.training.config import Config
from striate.training.events import StepDone, StepsChanged
from striate.training.state import TrainingState

EVEN = Pace((Phase(1.0, 0.1),), validation=0.0, epoch_steps=100, finish=5.0)


def run_through(time: TimeLeft, steps: list[float]) -> list[float]:
    """The time left after each of the steps that take so many seconds."""
    clock, left = 100.0, []
    for step, seconds in enumerate(steps, 1):
        clock += seconds
        left.append(time.after(step, clock))
    return left


def test_at_the_measured_pace_it_counts_down_to_the_report() -> None:
    left = run_through(TimeLeft(EVEN, 1000), [0.1] * 1000)
    assert left[0] == pytest.approx(0.1 * 999 + 5)
    assert left[499] == pytest.approx(0.1 * 500 + 5)
    assert left[-1] == pytest.approx(5.0)


def test_steps_that_become_twice_as_slow_double_what_is_left_within_half_a_minute() -> None:
    left = run_through(TimeLeft(EVEN, 2000), [0.1] * 500 + [0.2] * 500)
    assert left[499] == pytest.approx(0.1 * 1500 + 5)
    assert left[799] == pytest.approx(0.2 * 1200 + 10, rel=0.02)  # the report is no faster than the steps
    assert left[999] == pytest.approx(0.2 * 1000 + 10, rel=0.02)


def test_small_images_at_first_do_not_promise_too_early_an_end() -> None:
    pace = Pace((Phase(0.5, 0.05), Phase(0.5, 0.2)), validation=0.0, epoch_steps=100)
    left = run_through(TimeLeft(pace, 400), [0.05] * 200 + [0.2] * 200)
    assert left[99] == pytest.approx(5 + 40)
    assert left[299] == pytest.approx(20, rel=0.01)


def step(number: int, steps: int) -> StepDone:
    return StepDone(number, steps, 1, torch.zeros(()), 0.1, 10)


def watched(told: list[str]) -> TimeWatch:
    module = torch.nn.Linear(1, 1)
    state = TrainingState(module, torch.optim.SGD(module.parameters(), lr=0.1))
    return TimeWatch(RunDirectory(Path("run")), state, TimeLeft(EVEN, 1000), 105.0, told.append)


def test_a_slower_machine_is_told_once_with_what_is_to_be_expected() -> None:
    Path("run").mkdir()
    told: list[str] = []
    watch = watched(told)
    for number in range(1, 1001):
        watch.state.elapsed = 0.1 * number if number <= 300 else 30 + 0.3 * (number - 300)
        watch(step(number, 1000))
    assert told[-1].endswith(f"not {told[-2].split('about ')[1].split(' in total')[0]}") or len(told) == 1
    assert "slower than measured" in told[0]
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["time-forecast"] * len(told)
    assert events[0]["before"] == 105.0
    assert events[-1]["seconds"] == pytest.approx(30 + 0.3 * 700 + 5, rel=0.3)
    assert watch.left == pytest.approx(15.0)
    assert len(told) <= 3


def test_a_speed_that_swings_is_told_ever_more_rarely() -> None:
    Path("run").mkdir()
    told: list[str] = []
    watch = watched(told)
    for number in range(1, 1001):
        watch.state.elapsed += 0.05 if number // 100 % 2 else 0.6
        watch(step(number, 1000))
    for number in range(40):
        watch(StepsChanged(900, 1000, 700 if number % 2 else 1500, 60.0, Config()))
    assert 2 <= len(told) <= 5


def test_a_forecast_that_holds_is_not_spoken_of() -> None:
    told: list[str] = []
    watch = watched(told)
    for number in range(1, 1001):
        watch.state.elapsed = 0.104 * number
        watch(step(number, 1000))
    assert told == []


FORECAST = Forecast(1000, 105.0, (0.9, 0.98), 0.96, (ShortTraining(5, 0.4), ShortTraining(20, 0.2)))


def test_the_forecast_of_a_run_is_read_as_it_was_written() -> None:
    run = RunDirectory(Path())
    assert read_forecast(run) is None
    write_forecast(run, None, EVEN)
    assert read_forecast(run) is None
    write_forecast(run, FORECAST, EVEN)
    write_forecast(run, Forecast(1, 1.0), EVEN)  # what is there stays: a run goes on
    assert read_forecast(run) == (FORECAST, EVEN)
    module = torch.nn.Linear(1, 1)
    watch = time_watch(run, TrainingState(module, torch.optim.SGD(module.parameters(), lr=0.1)), 1000, print)
    assert watch is not None
    assert watch.announced == 105.0


@pytest.mark.parametrize("text", ["", "{}", '{"forecast": {}, "pace": {}}', "[1]", "null", "\x00"])
def test_a_run_does_without_a_damaged_forecast_or_plan(text) -> None:
    run = RunDirectory(Path())
    for file in (run.forecast, run.plan):
        file.write_text(text)
    assert read_forecast(run) is None
    assert read_plan_summary(run) == {}
    module = torch.nn.Linear(1, 1)
    state = TrainingState(module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert time_watch(run, state, 1000, print) is None
    write_json(run.plan, {"speedup": 2.0, "source": "cached", "rows": []})
    assert read_plan_summary(run) == {"speedup": 2.0, "source": "cached"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7505, "2 h 5 min")]
)
def test_durations(seconds, text) -> None:
    assert duration(seconds) == text
