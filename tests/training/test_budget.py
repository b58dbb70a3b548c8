"""From minutes to steps on a clock of the test's own; what a run is foretold, and when it is not."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
from short_runs import asked_for

from striate.errors import ModelError
from striate.training.budget import steps as budget
from striate.training.budget.forecast import ShortTraining
from striate.training.budget.pace import Pace, Phase
from striate.training.budget.short_trainings import forecast_accuracy
from striate.training.budget.speed import Work
from striate.training.budget.steps import decide_budget
from striate.training.prepare import Prepared, prepare

MLP = {"model__name": "mlp(8)"}


class Clock:
    """Stands still but for what is done."""

    def __init__(self, spent: float) -> None:
        self.seconds = spent

    def __call__(self) -> float:
        return self.seconds


@cache
def prepared_once() -> Prepared:
    return prepare(asked_for(epochs=1, **MLP))


def work_for(minutes: float | None) -> Work:
    """A training on digits, with minutes that nothing has decided yet."""
    prepared = prepared_once()
    asked = replace(prepared.config.budget, epochs=None if minutes else 1, minutes=minutes, steps=None)
    config = replace(prepared.config, budget=asked)
    return Work(prepared.state, prepared.task, prepared.splits, config, prepared.normalize)


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Pace:
    """A hundredth of a second a step, three seconds at the end; measuring takes none."""
    pace = Pace((Phase(1.0, 0.01),), validation=0.1, epoch_steps=79, finish=3.0)
    monkeypatch.setattr(budget, "measure_pace", lambda *_, **__: pace)
    return pace


@pytest.mark.parametrize("minutes", [0.3, 0.5, 1.0, 12.0, 600.0])
@pytest.mark.parametrize("spent", [2.0, 9.0])
def test_the_whole_command_takes_the_minutes(pace: Pace, minutes: float, spent: float) -> None:
    decided = decide_budget(work_for(minutes), Clock(spent))
    total = spent + pace.seconds(decided.config.budget.steps or 0)
    assert 0.9 * 60 * minutes <= total <= 1.0 * 60 * minutes
    assert decided.config.budget.epochs == -(-(decided.config.budget.steps or 0) // pace.epoch_steps)
    assert decided.notes == ()


def test_a_data_set_of_which_an_epoch_does_not_fit_is_trained_on_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Pace((Phase(1.0, 0.1),), validation=2.0, epoch_steps=5000, finish=6.0)
    monkeypatch.setattr(budget, "measure_pace", lambda *_, **__: large)
    decided = decide_budget(work_for(1.0), Clock(10.0))
    assert decided.config.budget.steps == pytest.approx((0.975 * 60 - 10 - 2 - 6) / 0.1, abs=2)


@pytest.mark.parametrize(("minutes", "spent"), [(0.05, 2.0), (0.2, 20.0), (0.001, 2.0)])
def test_too_few_minutes_are_told_with_what_it_will_take(pace: Pace, minutes: float, spent: float) -> None:
    decided = decide_budget(work_for(minutes), Clock(spent))
    assert decided.config.budget.steps == 1
    expected = round(spent + 3.11)
    assert f"1 training step and the report take {expected} s;" in decided.notes[0]
    remedy = re.search(r"--minutes ([\d.]+) leaves time", decided.notes[0])
    assert remedy is not None
    assert (decide_budget(work_for(float(remedy[1])), Clock(spent)).config.budget.steps or 0) > 1


def test_the_short_trainings_are_paid_from_the_minutes(pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, given = Clock(5.0), []

    def short(work: Work, _: Pace, seconds: float) -> tuple[ShortTraining, ...]:
        given.append((work.config.budget.steps, seconds))
        clock.seconds += seconds
        return (ShortTraining(50, 0.4), ShortTraining(100, 0.3))

    monkeypatch.setattr(budget, "run_short_trainings", short)
    decided = decide_budget(work_for(2.0), clock, forecast=True)
    steps = decided.config.budget.steps or 0
    assert given == [(given[0][0], pytest.approx(0.02 * 120))]
    assert given[0][0] > steps  # what was planned before the trainings took their time
    assert clock.seconds + pace.seconds(steps) <= 120
    forecast = decided.forecast
    assert forecast is not None
    assert forecast.steps == steps
    assert forecast.seconds == pytest.approx(clock.seconds + pace.seconds(steps))
    low, expected, high = forecast_accuracy(work_for(2.0), forecast.short_trainings, steps)
    assert (forecast.accuracy, forecast.expected) == ((low, high), expected)


def test_a_training_that_has_hardly_begun_foretells_nothing(pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    short = (ShortTraining(20, 0.89), ShortTraining(40, 0.8))
    monkeypatch.setattr(budget, "run_short_trainings", lambda *_: short)
    forecast = decide_budget(work_for(2.0), Clock(5.0), forecast=True).forecast
    assert forecast is not None
    assert (forecast.accuracy, forecast.expected, forecast.short_trainings) == (None, None, short)


def test_below_a_minute_only_the_time_is_foretold(pace: Pace) -> None:
    forecast = decide_budget(work_for(0.5), Clock(2.0), forecast=True).forecast
    assert forecast is not None
    assert forecast.accuracy is None
    assert forecast.seconds <= 30


def test_epochs_are_measured_only_where_they_take_long(pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "run_short_trainings", lambda *_: ())
    assert decide_budget(work_for(None), Clock(1.0), forecast=True).forecast is None
    work = work_for(None)
    long = replace(work, config=replace(work.config, budget=replace(work.config.budget, epochs=1000)))
    decided = decide_budget(long, Clock(1.0), forecast=True)
    assert decided.config.budget.steps == 79_000
    assert decided.forecast is not None
    assert decided.forecast.seconds == pytest.approx(1 + pace.seconds(79_000))
    assert decide_budget(long, Clock(1.0)).forecast is None


def test_steps_that_are_decided_stay(pace: Pace) -> None:
    work = work_for(3.0)
    fixed = replace(work, config=replace(work.config, budget=replace(work.config.budget, steps=17, epochs=4)))
    assert decide_budget(fixed, Clock(1.0)).config == fixed.config


def test_what_a_copy_cannot_do_costs_epochs_their_forecast_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> Pace:
        raise ModelError("model", "one that cannot be copied", "one that can", "leave out --minutes")

    monkeypatch.setattr(budget, "measure_pace", fails)
    work = work_for(None)
    long = replace(work, config=replace(work.config, budget=replace(work.config.budget, epochs=1000)))
    assert decide_budget(long, Clock(1.0), forecast=True).forecast is None
    with pytest.raises(ModelError):
        decide_budget(work_for(1.0), Clock(1.0))
