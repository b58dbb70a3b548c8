"""Minutes are kept where steps become slower or faster, and the run is repeated bit for bit all the same."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_runs import assert_same_run, at_step, config_for, train_quietly

from quick import few_quick
from striate.api import resume, verify
from striate.cli.main import main
from striate.runs.directory import RunDirectory, open_run
from striate.runs.events import read_events
from striate.training import session
from striate.training.budget import steps as budget
from striate.training.budget.deadline import Deadline, TimeLeft, TimeWatch, deadline_for
from striate.training.budget.pace import Pace, Phase
from striate.training.config import BudgetConfig, Config
from striate.training.config_file import config_from_yaml
from striate.training.events import StepsChanged
from striate.training.first_files import change_config
from striate.training.interruption import Interrupted
from striate.training.request import merge_request
from striate.training.setup import at_step as config_at
from striate.training.state import TrainingState

START = 5.0  # seconds that are over before the first step


def simulated(pace: Pace, seconds: float, slower: Callable[[float], float]) -> tuple[float, int, Config]:
    """A run by the clock: `slower` says how much longer than measured everything takes at a time. Returns when it
    ended, its number of steps at the start, and the configuration in the end."""
    steps = pace.steps_within(0.975 * seconds - START)
    config, in_time = Config(budget=BudgetConfig(steps=steps)), deadline_for(pace, steps, seconds)
    clock, step = START, 0
    while step < (config.budget.steps or 0):
        done = step / (config.budget.steps or 1)
        phase = pace.phases[0] if done < pace.phases[0].share else pace.phases[-1]
        clock += phase.seconds * slower(clock)
        step += 1
        changed = in_time.change(config, step, clock)
        config = changed.config if changed else config
        if step % pace.epoch_steps == 0 or step == config.budget.steps:
            clock += pace.validation * slower(clock)
    return clock + pace.finish * slower(clock), steps, config


PACE = Pace((Phase(0.4, 0.02), Phase(0.6, 0.05)), validation=0.3, epoch_steps=40, finish=1.5)


def test_a_run_as_fast_as_measured_is_left_alone() -> None:
    ended, steps, config = simulated(PACE, 60.0, lambda _: 1.0)
    assert config.budget == BudgetConfig(steps=steps)
    assert 0.94 * 60 <= ended <= 60


@pytest.mark.parametrize(("factor", "fewer"), [(1.3, True), (2.5, True), (0.6, False)])
def test_another_speed_than_measured_gives_another_number_of_steps(factor: float, fewer: bool) -> None:
    ended, steps, config = simulated(PACE, 60.0, lambda _: factor)
    assert (config.budget.steps < steps) == fewer
    assert 0.9 * 60 <= ended <= 1.03 * 60


def test_without_the_change_the_same_slowdown_would_take_far_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline, "change", lambda *_: None)
    assert simulated(PACE, 60.0, lambda _: 1.3)[0] > 1.2 * 60


@pytest.mark.slow
@settings(max_examples=60)
@given(
    seconds=st.sampled_from([90.0, 720.0]),
    at=st.floats(0.0, 0.75),
    factor=st.floats(0.5, 2.5),
    lasting=st.floats(0.05, 1.0),
)
def test_a_slow_or_fast_time_in_between_is_made_up_for(seconds, at, factor, lasting) -> None:
    begins, ends = at * seconds, (at + lasting) * seconds
    ended, steps, config = simulated(PACE, seconds, lambda clock: factor if begins <= clock < ends else 1.0)
    assert 0.9 * seconds <= ended <= 1.03 * seconds
    path = config.budget.steps_before
    assert [done for done, _ in path] == sorted({done for done, _ in path})
    assert all(done < before for done, before in path)
    if path:
        assert path[0][1] == steps
        assert path[-1][0] < config.budget.steps
        assert config.budget.epochs == -(-config.budget.steps // 40)


def test_a_slowdown_that_is_over_leaves_no_short_run() -> None:
    ended, _, _ = simulated(PACE, 600.0, lambda clock: 3.0 if 100 <= clock < 130 else 1.0)
    assert 0.9 * 600 <= ended <= 1.03 * 600


@pytest.mark.parametrize(("seconds", "pause"), [(60.0, 5.0), (60.0, 10.0), (600.0, 61.0)])
def test_a_pause_costs_its_own_time_and_no_more(seconds: float, pause: float) -> None:
    stood = False

    def slower(clock: float) -> float:
        nonlocal stood
        if stood or clock < seconds / 3:
            return 1.0
        stood = True
        return pause / 0.02

    pace = Pace((Phase(1.0, 0.02),), validation=0.3, epoch_steps=100, finish=0.1 * seconds)
    ended, before, config = simulated(pace, seconds, slower)
    assert 0.94 * seconds < ended < 1.03 * seconds
    assert (config.budget.steps or 0) > before * (1 - 1.5 * pause / seconds)


def test_where_nothing_fits_any_more_one_step_is_left() -> None:
    ended, steps, config = simulated(PACE, 20.0, lambda clock: 1.0 if clock < 12 else 1000.0)
    assert config.budget.steps < steps
    assert ended > 20  # nobody can help that


@pytest.mark.slow
def test_a_pace_that_was_measured_ten_times_too_fast_is_noticed(monkeypatch) -> None:
    measured = budget.measure_pace

    def too_fast(*arguments: object, **options: object) -> Pace:
        pace = measured(*arguments, **options)
        phases = tuple(replace(phase, seconds=phase.seconds / 10) for phase in pace.phases)
        return replace(pace, phases=phases, validation=pace.validation / 10)

    monkeypatch.setattr(budget, "measure_pace", too_fast)
    train_quietly(merge_request(Config(), data="digits", minutes=0.1, fields={"model.name": "fc(10)"}), Path("run"))
    reached = config_from_yaml(Path("run/config.yaml")).budget
    assert reached.steps < 0.7 * reached.steps_before[0][1]
    changes = [event for event in read_events(RunDirectory(Path("run"))) if event["event"] == "steps-changed"]
    assert [(event["step"], event["before"]) for event in changes] == list(reached.steps_before)
    told = f"slower than measured at the start: {reached.steps:,} steps instead of {reached.steps_before[0][1]:,}"
    assert Path("run/report.html").read_text().count(told) == 1
    assert json.loads(Path("run/metrics.json").read_text())["steps"] == reached.steps


class Scripted:
    """An `Deadline` that changes the number of steps where a script says so."""

    def __init__(self, script: dict[int, int]) -> None:
        self.script = script

    def change(self, config: Config, step: int, _: float) -> StepsChanged | None:
        """By the script."""
        before, steps = config.budget.steps or 0, self.script.get(step)
        if steps is None or before == steps:
            return None
        path = (*config.budget.steps_before, (step, before))
        budget = replace(config.budget, steps=steps, steps_before=path, epochs=-(-steps // 4))
        return StepsChanged(step, before, steps, 60.0, replace(config, budget=budget))


def take_script(patch: pytest.MonkeyPatch, script: dict[int, int]) -> None:
    """Let the next run change its number of steps so."""
    original = session.training_events

    def events(*arguments: object, **options: object):
        return original(*arguments[:6], Scripted(script), **options)

    patch.setattr(session, "training_events", events)


SCRIPTS = {
    "fewer in the middle of an epoch": {6: 13},
    "fewer, to end with the next step": {6: 7},
    "more in the last epoch": {5: 9, 8: 11},
    "more than at first": {3: 23},
    "fewer, then more, then fewer": {2: 10, 5: 18, 9: 15},
}


@pytest.mark.slow
@pytest.mark.parametrize("script", few_quick(SCRIPTS.values(), [*SCRIPTS.values()][2:3]), ids=SCRIPTS)
def test_a_run_whose_steps_changed_is_repeated_bit_for_bit(script, photos, monkeypatch) -> None:
    folder = photos()
    fields = {
        "model.name": "conv(4,3) bn relu gap fc(3)",
        "optim.ema": 0.5,
        "schedule.first_size": 0.5,
        "schedule.name": "one-cycle",
    }
    with monkeypatch.context() as patch:
        take_script(patch, script)
        train_quietly(config_for(folder, **fields), Path("changed"))
    config = config_from_yaml(Path("changed/config.yaml"))
    assert config.budget.steps == list(script.values())[-1]
    assert [done for done, _ in config.budget.steps_before] == list(script)
    rows = Path("changed/metrics.csv").read_text().splitlines()[1:]
    assert len(rows) == config.budget.epochs
    assert rows[-1].split(",")[1] == str(config.budget.steps)

    train_quietly(config, Path("repeated"))
    assert_same_run(Path("changed"), Path("repeated"))
    assert config_from_yaml(Path("repeated/config.yaml")) == config


@pytest.mark.slow
def test_a_run_killed_before_its_steps_changed_goes_on_to_the_same_end(photos, monkeypatch) -> None:
    """Its configuration is written first: it says what came then."""
    folder = photos()
    with monkeypatch.context() as patch:
        take_script(patch, {6: 13})
        train_quietly(config_for(folder), Path("whole"))
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train_quietly(config_for(folder), Path("cut"))
    change_config(open_run(Path("cut")), config_from_yaml(Path("whole/config.yaml")))
    resume("cut", quiet=True)
    assert_same_run(Path("whole"), Path("cut"))
    assert verify("whole").verdict == "agree"


def test_the_schedule_of_a_step_is_that_of_its_time() -> None:
    config = Config(budget=BudgetConfig(steps=20, steps_before=((5, 30), (9, 12))))
    assert [config_at(config, step).budget.steps for step in (0, 4, 5, 8, 9, 19)] == [30, 30, 12, 12, 20, 20]
    assert config_at(config, 3).budget.steps_before == ()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("path", "steps"),
    [([[5, 5]], 20), ([[5, 30], [5, 40]], 20), ([[9, 30], [5, 40]], 20), ([[20, 30]], 20), ([[5, 30]], None)],
)
def test_a_path_that_no_run_can_have_taken_is_refused(path, steps, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    budget = {"steps_before": path, "steps": steps}
    Path("own.yaml").write_text(json.dumps({"data": {"source": "digits"}, "budget": budget}))
    assert main(["train", "--config", "own.yaml", "--out", "run"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "budget.steps_before" in said
    assert "--budget.steps_before '[]'" in said
    assert not Path("run").exists()


def test_another_length_begins_a_path_of_its_own() -> None:
    run = Config(budget=BudgetConfig(steps=20, epochs=2, minutes=1.0, steps_before=((5, 30),)))
    assert merge_request(run, epochs=3, fields={}).budget.steps_before == ()
    assert merge_request(run, fields={"batch": 8}).budget.steps_before == ()
    assert merge_request(run, fields={"seed": 8}).budget == run.budget
    assert run.budget.of(7) == BudgetConfig(steps=7, epochs=2, minutes=1.0)


def test_only_much_fewer_or_more_steps_are_told() -> None:
    told: list[str] = []
    state = TrainingState(module := torch.nn.Linear(1, 1), torch.optim.SGD(module.parameters(), lr=0.1))
    watch = TimeWatch(RunDirectory(Path("run")), state, TimeLeft(PACE, 1000), 60.0, told.append)
    changes = [(10, 1000, 950), (20, 950, 890), (30, 890, 860), (40, 860, 1000), (50, 1000, 1100)]
    for step, before, steps in changes:
        watch(StepsChanged(step, before, steps, 60.0, Config()))
        assert watch.time.steps == steps
    assert told == [
        "steps are slower than measured at the start: 890 steps instead of 1,000, to end within 1 min 0 s",
        "steps are faster than measured at the start: 1,100 steps instead of 890, to end within 1 min 0 s",
    ]
