"""Means, deviations and pooled answers, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_folds import CLASSES, fold_result

from striate.studies.cross_validation.cv_summary import (
    compare_folds,
    held_share,
    sentences,
    summarize_folds,
    summary_lines,
)
from striate.studies.cross_validation.fold import is_number
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress
from striate.training.config import Config
from striate.training.config_file import with_fields
from striate.training.early_stop import chooses_by_validation

LEFT, RIGHT = (0.9, 0.1), (0.2, 0.8)
TARGETS = torch.tensor([0, 0, 1, 1])
TASK = Classify(CLASSES)


def accuracy(value: float, **changes):
    return {"n": 2, "loss": 0.5, "accuracy": value, "accuracy_interval": [0.1, 0.9], **changes}


@pytest.fixture
def results():
    """Two repeats of two folds over four samples; ids are in another order than they were held out."""
    return [
        fold_result(1, 1, [2, 0], [RIGHT, LEFT], accuracy(1.0)),
        fold_result(1, 2, [3, 1], [RIGHT, RIGHT], accuracy(0.5)),
        fold_result(2, 1, [0, 1], [RIGHT, LEFT], accuracy(0.5)),
        fold_result(2, 2, [2, 3], [LEFT, LEFT], accuracy(0.0)),
    ]


def test_mean_and_deviation_are_over_folds_and_pooled_ones_over_repeats(results) -> None:
    cv = summarize_folds(results, TARGETS, TASK, chosen=True)
    assert (cv["folds"], cv["repeats"], cv["n"], cv["held_out"]) == (2, 2, 4, [2, 2, 2, 2])
    assert cv["mean"]["accuracy"] == pytest.approx(0.5)
    assert cv["std"]["accuracy"] == pytest.approx((0.5 / 3) ** 0.5)  # squares .25 + 0 + 0 + .25, over 3
    assert [values["accuracy"] for values in cv["per_repeat"]["values"]] == [0.75, 0.25]
    assert cv["per_repeat"]["mean"]["accuracy"] == pytest.approx(0.5)
    assert cv["per_repeat"]["std"]["accuracy"] == pytest.approx(0.125**0.5)
    assert "accuracy_interval" not in cv["mean"]
    low, high = cv["interval"]["accuracy"]
    assert (low, high) == (0.0, 1.0)  # what is no share is cut off


def test_one_repeat_has_no_deviation_between_repeats(results) -> None:
    cv = summarize_folds(results[:2], TARGETS, TASK, chosen=True)
    assert cv["per_repeat"]["std"]["accuracy"] is None
    assert "All 4 predictions pooled: 75.00 %." in sentences(cv, cv["held_out"], "accuracy")


def test_a_figure_that_one_fold_lacks_has_no_mean(results) -> None:
    results[3] = fold_result(2, 2, [2, 3], [LEFT, LEFT], accuracy(0.0, r2=None))
    for place in range(3):
        results[place].metrics["r2"] = 0.5
    cv = summarize_folds(results, TARGETS, TASK, chosen=True)
    assert cv["mean"]["r2"] is None
    assert cv["std"]["r2"] is None


def test_the_sentences_say_what_the_deviations_are_of(results) -> None:
    told = " ".join(sentences(summarize_folds(results, TARGETS, TASK, chosen=True), [2, 2, 2, 3], "accuracy"))
    assert "accuracy 50.00 ± 40.82 % over 4 held-out folds of 2 to 3 (mean ± standard deviation between folds)" in told
    assert "the two repeats have 50.00 ± 35.36 %" in told
    assert "not the error of the mean" in told


def test_lower_errors_are_in_the_networks_favor() -> None:
    task = Regress(("y",), (0.0,), (1.0,))
    measured = [(1.0, 3.0), (1.2, 2.9), (0.9, 3.2), (1.1, 3.1)]
    results = [
        fold_result(1, k + 1, [k], [[0.0]], {"n": 1, "rmse": ours}, baselines={"ridge": {"n": 1, "rmse": theirs}})
        for k, (ours, theirs) in enumerate(measured)
    ]
    entry = compare_folds(results, "ridge", task, chosen=True)
    assert entry["mean"]["rmse"] == pytest.approx(3.05)
    assert entry["comparison"]["difference"] == pytest.approx(2.0)
    assert entry["comparison"]["beats"]
    assert "RMSE is 2 lower than that of ridge: more than noise" in entry["comparison"]["sentence"]


def test_a_baseline_that_is_as_good_is_not_beaten(results) -> None:
    same = [fold_result(r.repeat, r.fold, r.ids, r.decoded, r.metrics, baselines={"b": r.metrics}) for r in results]
    entry = compare_folds(same, "b", TASK, chosen=True)
    assert not entry["comparison"]["beats"]
    assert "is the same" in entry["comparison"]["sentence"]


def test_a_worse_network_is_said_to_be_worse(results) -> None:
    measured = [
        fold_result(r.repeat, r.fold, r.ids, r.decoded, accuracy(b - 0.4), baselines={"b": accuracy(b)})
        for r, b in zip(results, [0.9, 0.91, 0.92, 0.9], strict=True)
    ]
    measured[0].metrics["accuracy"] -= 0.01
    entry = compare_folds(measured, "b", TASK, chosen=True)
    assert "lower than that of b: more than noise" in entry["comparison"]["sentence"]
    assert not entry["comparison"]["beats"]


def test_the_mean_is_named_with_its_article() -> None:
    results = [
        fold_result(1, k + 1, [k], [[0.0]], {"n": 1, "rmse": 1.5}, baselines={"mean": {"n": 1, "rmse": 2.0}})
        for k in range(4)
    ]
    entry = compare_folds(results, "mean", Regress(("y",), (0.0,), (1.0,)), chosen=True)["comparison"]
    assert "0.5 lower than that of the mean: " in entry["sentence"]


def test_a_lead_that_is_the_same_in_each_fold_is_told_but_not_tested() -> None:
    task = Regress(("y",), (0.0,), (1.0,))
    results = [
        fold_result(1, k + 1, [k], [[0.0]], {"n": 1, "rmse": 1.5}, baselines={"ridge": {"n": 1, "rmse": 2.0}})
        for k in range(4)
    ]
    entry = compare_folds(results, "ridge", task, chosen=True)["comparison"]
    assert entry["sentence"] == (
        "On each of the same 4 folds the network's RMSE is 0.5 lower than that of ridge: "
        "without a standard deviation there is no test."
    )
    assert not entry["beats"]


@pytest.mark.parametrize("chosen", [True, False])
def test_validation_counts_as_learned_from_where_it_chose_an_epoch(results, chosen: bool) -> None:
    assert held_share(results, chosen=chosen) == pytest.approx(2 / 10 if chosen else 2 / 8)
    wide = summarize_folds(
        [replace(r, metrics=accuracy(m)) for r, m in zip(results, (0.5, 0.52, 0.49, 0.5), strict=True)],
        TARGETS,
        TASK,
        chosen=chosen,
    )
    low, high = wide["interval"]["accuracy"]
    assert high - low == pytest.approx(0.0537 if chosen else 0.0566, abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "chooses"),
    [({}, False), ({"keep": "best"}, True), ({"budget.patience": 2}, True), ({"budget.target": 0.9}, True)],
)
def test_what_lets_validation_choose(fields: dict[str, object], chooses: bool) -> None:
    assert chooses_by_validation(with_fields(Config(), {"keep": "last", "budget.patience": 0} | fields)) is chooses


def test_the_interval_of_an_error_does_not_reach_below_zero() -> None:
    task = Regress(("y",), (0.0,), (1.0,))
    results = [
        fold_result(1, k + 1, [k], [[0.0]], {"n": 1, "rmse": rmse}) for k, rmse in enumerate([0.1, 0.1, 4.0, 0.2])
    ]
    cv = summarize_folds(results, torch.zeros(4, 1), task, chosen=True)
    low, high = cv["interval"]["rmse"]
    assert low == 0.0
    assert high > 4


def test_the_summary_for_a_terminal_has_every_figure(results) -> None:
    lines = summary_lines({"cv": summarize_folds(results, TARGETS, TASK, chosen=True)})
    assert lines[0].startswith("accuracy 50.00 ± 40.82 %")
    assert lines[1] == "loss 0.5 ± 0"


def test_a_metric_that_two_tasks_have_is_called_as_that_of_the_study() -> None:
    figures = {"recall@1": 0.5, "auc": 0.9, "eer": 0.1}
    pooled = {"mean": figures, "std": figures}
    cv = {**pooled, "per_repeat": pooled, "interval": {"recall@1": None}, "held_out": [4, 4], "repeats": 1, "n": 8}
    assert "AUC of pairs" in summary_lines({"cv": cv})[1]


def test_an_interval_that_few_samples_lack_is_no_metric() -> None:
    assert is_number("ap", None)
    assert not is_number("map_interval", None)
