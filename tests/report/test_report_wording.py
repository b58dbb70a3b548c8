from __future__ import annotations

import numpy as np
import pytest
from made_runs import classification, regression, task_of

from striate.report.numbers import history_table, metric, metric_table
from striate.tasks.classify.show import confusion_table, recall_table
from striate.tasks.metric import Metric
from striate.wording import number, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (1234567, "1,234,567"),
        (np.int64(5), "5"),
        (0.000123456, "0.0001235"),
        (2.0, "2"),
        ("a", "a"),
        (1253.4, "1,253"),
        (999.94, "999.9"),
        (1061727.5, "1,061,728"),
        (-78940.3, "−78,940"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_shares_are_percent_and_the_sign_stays_with_the_number():
    assert percent(0.9766) == "97.7 %"
    assert metric("accuracy", 0.5) == "50.0 %"
    assert metric("accuracy_interval", [0.1, 0.25]) == "10.0 % to 25.0 %"
    assert metric("r2", 1.0) == "1.000"
    assert metric("r2", -0.009) == "−0.009"
    assert metric("macro_f1", 0.918) == metric("accuracy", 0.918)
    assert metric("r2", None) == "–"


def answer(evaluation):
    return task_of(evaluation).headline_text(evaluation)


def test_the_answer_names_what_guessing_would_reach():
    assert "most frequent of the 4 classes among these samples would reach 25.0 %" in answer(classification())[1]
    evaluation = regression()
    assert (
        f"mean of these samples would have an RMSE of {evaluation.targets.astype(float).std():.4g}."
        in answer(evaluation)[1]
    )


def test_tables_hold_the_evaluation():
    evaluation = classification()
    matrix = confusion_table(evaluation)
    assert [list(row[1:]) for row in matrix.rows] == evaluation.confusion.tolist()
    assert [row[0] for row in recall_table(evaluation).rows] == list(evaluation.classes)
    assert metric_table({"val": {"n": 3, "loss": 1.0}, "test": evaluation.metrics}).rows[0][2:] == ("1", *("–",) * 4)


def test_many_classes_list_their_mistakes_by_frequency():
    evaluation = classification(tuple(f"c{k}" for k in range(30)), n=900)
    table = confusion_table(evaluation)
    counts = [row[2] for row in table.rows]
    assert counts == sorted(counts, reverse=True)
    assert len(counts) == 200
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    assert counts[0] == wrong.max()
    assert f"of {(wrong > 0).sum()} kinds of mistakes" in table.caption


def test_history_keeps_every_column():
    table = history_table([{"epoch": 1, "a": 0.5}, {"epoch": 2, "b": None}])
    assert table.columns == ("epoch", "a", "b")
    assert table.rows == ((1, 0.5, None), (2, None, None))


@pytest.mark.parametrize(
    ("std", "text"), [(1.008, "4.079 ± 1.0"), (0.7, "4.079 ± 0.70"), (12.3, "4.079 ± 12"), (0, "4.079 ± 0")]
)
def test_a_standard_deviation_has_two_digits(std: float, text: str) -> None:
    assert Metric("rmse").text(4.079, std) == text
