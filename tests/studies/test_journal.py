"""The journal of a study: the same past gives the same next trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.errors import RunError
from striate.studies.sweep.journal import Journal, locked
from striate.studies.sweep.space import parse_space
from striate.studies.sweep.train_once import TrainingOutcome

SPACE = parse_space(["optim.lr=1e-4..1e-1", "batch=16|32|64", "augment.shift=0..9"])
RECIPE = {"optim.lr": 0.003, "batch": 32, "augment.shift": 2}


def outcome(score: float | None, epochs: int = 1) -> TrainingOutcome:
    return TrainingOutcome(epochs, 0, 0.5, {} if score is None else {"loss": 1.0, "accuracy": score}, score)


def fill(path: str, trials: int, seed: int = 0, reopen: bool = False) -> Journal:
    journal = Journal(Path(path), SPACE, seed)
    for number in range(trials):
        trial = journal.next_trial(RECIPE)
        journal.begin(number, 9)
        # Better for large rates, so that the sampler has something to learn.
        score = trial.fields["optim.lr"] ** 0.1
        journal.keep(number, 0, outcome(score))
        journal.close(number, "pruned" if number else "complete")
        if reopen:
            journal = Journal(Path(path), SPACE, seed)
    return journal


def fields(journal: Journal) -> list[dict[str, object]]:
    return [trial.fields for trial in journal.trials()]


def test_the_first_trial_has_the_recipes_values() -> None:
    trial = fill("a", 1).trials()[0]
    assert trial.fields == RECIPE
    assert trial.recipe


def test_a_recipe_outside_of_the_space_gives_what_it_can() -> None:
    journal = Journal(Path("a"), SPACE, 0)
    trial = journal.next_trial(RECIPE | {"batch": 100})
    assert trial.fields["optim.lr"] == 0.003
    assert trial.fields["batch"] in (16, 32, 64)
    assert not trial.recipe


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trials_however_often_it_is_opened() -> None:
    straight = fields(fill("a", 20))
    assert fields(fill("b", 20, reopen=True)) == straight
    assert fields(fill("c", 20, seed=1)) != straight
    assert fields(Journal(Path("a"), SPACE, 0)) == straight


@pytest.mark.slow
def test_the_sampler_learns_from_trainings_that_were_cut_short() -> None:
    rates = [trial["optim.lr"] for trial in fields(fill("a", 40))]
    blind, guided = rates[1:9], rates[20:]
    assert sorted(guided)[len(guided) // 2] > 3 * sorted(blind)[len(blind) // 2]


def test_a_trial_that_was_left_is_taken_up_with_its_values_and_rungs() -> None:
    journal = fill("a", 3)
    trial = journal.next_trial(RECIPE)
    journal.keep(3, 0, outcome(0.5))
    again = Journal(Path("a"), SPACE, 0).next_trial(RECIPE)
    assert again.number == 3
    assert again.fields == trial.fields
    assert [rung.score for rung in again.rungs] == [0.5]
    assert len(Journal(Path("a"), SPACE, 0).trials()) == 4


def test_half_a_line_is_cut_off() -> None:
    journal = fill("a", 3)
    with Path("a").open("a") as file:
        file.write('{"op_code": 4, "trial')
    again = Journal(Path("a"), SPACE, 0)
    assert fields(again) == fields(journal)
    again.note("key", 1)
    assert Journal(Path("a"), SPACE, 0).notes() == {"key": 1}


@pytest.mark.slow
def test_what_matters_is_found_and_little_data_say_nothing() -> None:
    assert fill("a", 8).importances(0) == {}
    shares = fill("b", 24).importances(0)
    assert max(shares, key=shares.__getitem__) == "optim.lr"
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)


def test_a_training_that_diverged_is_kept_without_a_score() -> None:
    journal = Journal(Path("a"), SPACE, 0)
    journal.next_trial(RECIPE)
    journal.keep(0, 0, outcome(None))
    journal.close(0, "diverged")
    (trial,) = Journal(Path("a"), SPACE, 0).trials()
    assert trial.state == "diverged"
    assert trial.score == float("-inf")


def test_the_lock_is_exclusive_and_released(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
