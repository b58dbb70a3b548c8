"""What is said of the best beside the recipe, for figures made by hand."""

from __future__ import annotations

import re

import pytest
from scipy import stats

from striate.studies.sweep.journal import Trial
from striate.studies.sweep.standing import Finalist, comparison, describe
from striate.studies.sweep.train_once import TrainingOutcome

METRICS = {"study": {"metric": "accuracy", "n_val": 1000, "higher_is_better": True, "trials": 6}}


def finalist(number: int, accuracies: list[float], *, recipe: bool = False, search: float = 0.9) -> Finalist:
    first, *repeated = (
        TrainingOutcome(9, seed, 1.0, {"loss": 1.0, "accuracy": value}, value)
        for seed, value in enumerate([search, *accuracies])
    )
    return Finalist(Trial(number, {}, "complete", 9, (first,), recipe), tuple(repeated))


def reach(sentence: str) -> float:
    found = re.search(r"± ([\d.]+) points", sentence)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("rivals", [1, 3])
def test_the_best_of_several_needs_a_larger_lead(rivals: int) -> None:
    best = finalist(1, [0.93, 0.94, 0.95])
    others = [finalist(2 + k, [0.9, 0.9, 0.9]) for k in range(rivals - 1)]
    sentence = comparison(METRICS, [best, *others, finalist(0, [0.9, 0.9, 0.9], recipe=True)])
    error = 1 / 3**0.5  # gains of 3, 4 and 5 points
    assert reach(sentence) == pytest.approx(stats.t.ppf(1 - 0.025 / rivals, 2) * error, rel=0.05)
    assert sentence.startswith("Seed by seed: +4 ±")
    assert ("Bonferroni" in sentence) == (rivals > 1)
    # 4 points are 6.9 standard errors: enough for the one rival there was, not for the best of three.
    assert ("more than the seeds explain" in sentence) == (rivals == 1)


def test_where_the_recipe_is_first_nothing_is_claimed_of_what_is_better() -> None:
    recipe, other = finalist(0, [0.92, 0.92], recipe=True), finalist(1, [0.9, 0.9])
    assert comparison(METRICS, [recipe, other]).startswith("No trial has a better mean than the recipe")
    recipe, other = finalist(0, [], recipe=True, search=0.92), finalist(1, [], search=0.9)
    assert comparison(METRICS, [recipe, other]).startswith("No trial has a better metric than the recipe")


def test_a_recipe_without_a_rival_is_not_called_the_best() -> None:
    said = comparison(METRICS, [finalist(0, [0.92, 0.92], recipe=True)])
    assert said.startswith("The recipe has no rival: none of 5 other trials completed")
    alone = {"study": METRICS["study"] | {"trials": 1}}
    assert comparison(alone, [finalist(0, [0.92, 0.92], recipe=True)]) == "Only the recipe was tried."


def test_the_table_names_the_metric_and_counts_the_trials_that_it_does_not_list() -> None:
    states = {"complete": 2, "pruned": 3, "diverged": 1, "refused": 0}
    study = {"metric": "rmse", "n_val": 100, "higher_is_better": False, "trials": 6, "seeds": [1], "over": {}}
    outcome = TrainingOutcome(9, 0, 1.0, {"loss": 4.0, "rmse": 2.0}, -2.0)
    best = Finalist(Trial(0, {}, "complete", 9, (outcome,), True), ())
    test = {"n": 50, "rmse": 2.5, "rmse_interval": [2.0, 3.0]}
    lines = describe({"study": study | states, "test": test}, [best])
    assert lines[0] == "val RMSE, best first:"
    assert "not listed: 3 pruned, 1 diverged, 1 complete; trials.csv has every training" in lines
    assert lines[-1].endswith("RMSE 2.5 (95 % interval 2 to 3, bootstrap).")


def test_lower_is_better_where_the_metric_says_so() -> None:
    def error(number: int, values: list[float], recipe: bool = False) -> Finalist:
        outcomes = [
            TrainingOutcome(9, seed, 1.0, {"loss": v, "rmse": v}, -v) for seed, v in enumerate([values[0], *values])
        ]
        return Finalist(Trial(number, {}, "complete", 9, (outcomes[0],), recipe), tuple(outcomes[1:]))

    metrics = {"study": {"metric": "rmse", "n_val": 100, "higher_is_better": False}}
    best, recipe = error(1, [2.0, 2.1, 2.05]), error(0, [3.0, 3.1, 3.1], recipe=True)
    assert "Seed by seed: val RMSE 1.02 ± " in comparison(metrics, [best, recipe])
    assert " lower than the recipe's (95 % interval" in comparison(metrics, [best, recipe])
    once = comparison(metrics, [error(1, [2.0]), error(0, [3.0], recipe=True)])
    assert once == "One training each: val RMSE 1 lower than the recipe's, which may be chance."
