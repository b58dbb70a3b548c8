"""Training to a target: it ends there, says when, and never claims what it did not reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from short_runs import asked_for, events_of

from striate.api import resume, sweep, train, train_config
from striate.errors import ConfigError
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress
from striate.training import session
from striate.training.config import BudgetConfig
from striate.training.early_stop import early_end, reaches, target_outcome, training_is_over
from striate.training.events import EpochDone, EpochRow
from striate.training.prepare import prepare

TASK = Classify(("a", "b"))
NUMBERS = Regress(("y",), (0.0,), (1.0,))
MLP = {"model__name": "mlp(32)"}


def rows(values: list[float], metric: str = "accuracy") -> list[EpochRow]:
    return [EpochRow(n, 10 * n, 0.1, {}, {metric: v, "loss": 1.0}, 1.0, 1) for n, v in enumerate(values, 1)]


@pytest.mark.parametrize(("value", "target", "ends"), [(0.94, 0.94, True), (0.9399, 0.94, False), (1.0, None, False)])
def test_accuracy_has_to_be_as_high(value, target, ends) -> None:
    assert reaches({"accuracy": value}, target, TASK) is ends
    assert training_is_over(rows([0.1, value]), TASK, BudgetConfig(target=target)) is ends


@pytest.mark.parametrize(("value", "ends"), [(2.0, True), (1.9, True), (2.1, False)])
def test_an_error_has_to_be_as_low(value, ends) -> None:
    assert reaches({"rmse": value}, 2.0, NUMBERS) is ends


def test_before_the_first_epoch_nothing_is_over() -> None:
    assert not training_is_over([], TASK, BudgetConfig(target=0.1))


def test_the_outcome_is_that_of_the_first_epoch_that_reached_it() -> None:
    outcome = target_outcome(rows([0.5, 0.9, 0.95]), 0.9, TASK, 12.34)
    assert outcome is not None
    expected = {
        "metric": "accuracy",
        "value": 0.9,
        "reached": True,
        "best": 0.95,
        "epoch": 2,
        "seconds": 12.34,
        "n": None,
    }
    assert outcome.to_json() == expected
    assert str(outcome) == "target reached after 12.3 s: validation accuracy 95.00 % in epoch 2, target 90.00 %"


def test_a_target_out_of_reach_is_told_as_that() -> None:
    outcome = target_outcome(rows([3.0, 2.5, 2.6], "rmse"), 1.0, NUMBERS, 99.0)
    assert outcome is not None
    assert (outcome.reached, outcome.epoch, outcome.seconds, outcome.best) == (False, None, None, 2.5)
    assert str(outcome) == "target not reached: validation rmse 2.5 at best, target 1"
    assert target_outcome(rows([0.5]), None, TASK, 1.0) is None


def test_the_early_end_says_which_of_the_two_it_was() -> None:
    told = early_end(rows([0.5, 0.95]), TASK, 9, 0.9)
    assert told == "training ended after epoch 2 of 9: the target was reached (budget.target)"
    assert "budget.patience" in str(early_end(rows([0.95, 0.5]), TASK, 9, 0.99))


def test_training_ends_with_the_epoch_that_reaches_it() -> None:
    prepared = prepare(asked_for(epochs=30, budget__target=0.5, **MLP))
    done = [event for event in events_of(prepared) if isinstance(event, EpochDone)]
    assert 1 <= len(done) < 30
    assert [event.row.val["accuracy"] >= 0.5 for event in done] == [False] * (len(done) - 1) + [True]
    assert [event.finished for event in done] == [False] * (len(done) - 1) + [True]
    assert list(events_of(prepared)) == []  # also where it goes on from there


def test_the_interval_is_of_the_samples_that_are_measured() -> None:
    config = asked_for(epochs=4, budget__target=0.2, evaluation__val_samples=20, **MLP)
    train_config(config, out=Path("run"), console=Console(stderr=True), quiet=True)
    assert "n = 20" in (Path("run") / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("target", "remedy"), [(94, "--target 0.94, which is 94 %"), (1.5, "--target 0.9, which is 90 %")]
)
def test_percentages_are_refused_with_the_share(target, remedy) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(asked_for(budget__target=target, **MLP))
    assert caught.value.remedy == remedy
    prepare(asked_for("iris", budget__target=0.9, model__name="mlp(4)"))


@pytest.mark.parametrize("target", [0, -1, "abc", "true"])
def test_what_is_no_share_is_refused_with_one(target) -> None:
    with pytest.raises(ConfigError) as caught:
        asked_for(budget__target=target)
    assert caught.value.remedy == "--target 0.94 for 94 %"


def test_numbers_have_targets_in_their_own_units() -> None:
    prepared = prepare(asked_for("boston", epochs=20, budget__target=20.0, model__name="mlp(4)"))
    assert len([event for event in events_of(prepared) if isinstance(event, EpochDone)]) == 1


@pytest.mark.slow
def test_a_run_tells_what_became_of_its_target() -> None:
    reached = train("digits", "mlp(32)", epochs=30, target=0.5, out="reached").metrics["target"]
    assert reached["reached"]
    assert reached["best"] >= 0.5
    rowed = Path("reached/metrics.csv").read_text().splitlines()
    assert len(rowed) == 1 + reached["epoch"]
    events = [json.loads(line) for line in Path("reached/events.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert reached["seconds"] == pytest.approx(epochs[-1]["elapsed"], abs=1e-3)
    assert sum(event["seconds"] for event in epochs) < reached["seconds"]
    missed = train("digits", "mlp(32)", epochs=1, target=1.0, out="missed").metrics["target"]
    assert missed == {"metric": "accuracy", "value": 1.0, "reached": False, "best": missed["best"]} | dict.fromkeys(
        ("epoch", "seconds")
    ) | {"n": missed["n"]}
    assert missed["n"] > 0
    assert "target" not in train("digits", "mlp(32)", epochs=1, out="none").metrics


def test_a_target_reached_on_a_handful_of_samples_says_how_little_that_shows() -> None:
    assert str(target_outcome(rows([1.0]), 0.95, TASK, 1.0, 15)).endswith("(n = 15, 95 % interval 79.6 to 100.0 %)")


@pytest.mark.slow
def test_a_run_killed_before_its_report_keeps_the_time_to_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    config = asked_for(epochs=30, budget__target=0.5, **MLP)
    with monkeypatch.context() as patch:
        patch.setattr("striate.api.training.finish_run", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            train_config(config, out=Path("cut"), console=Console(stderr=True), quiet=True)
    spent = session.load_checkpoint(Path("cut/checkpoints/last.pt"))["elapsed"]
    outcome = resume("cut", quiet=True).metrics["target"]
    assert outcome["reached"]
    assert outcome["seconds"] == spent > 0


def test_trainings_that_are_compared_have_no_target() -> None:
    space, fields = {"optim.lr": "1e-3..1e-2"}, {"budget.target": 0.5}
    with pytest.raises(ConfigError, match="trainings of full length"):
        sweep("digits", space, model="mlp(8)", set=fields, out="swept")
    with pytest.raises(ConfigError, match="with --cv 2x1") as caught:
        train("iris", "mlp(4)", cv="2x1", target=0.5, out="folds")
    assert "set={\"budget.target\": 'null'}" in caught.value.remedy
    assert not any(Path(name).exists() for name in ("swept", "folds"))
