"""Intervals are over groups where samples have groups: copies of a sample tell nothing that it did not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from answers_made import calibrated
from striate.data.dataset import SampleFacts
from striate.statistics.intervals import hits_interval, wilson
from striate.tasks.classify.task import Classify
from striate.tasks.detect.task import Detect
from striate.tasks.evaluation import Evaluation
from striate.tasks.reconstruct.task import Reconstruct
from striate.tasks.regress.task import Regress
from striate.tasks.segment.task import Segment
from striate.tasks.task import Task

COUNT, COPIES = 40, 4
NAMES = ("a", "b", "c")
GROUPS = [f"g{number // COPIES}" for number in range(COUNT * COPIES)]

Made = tuple[Task, Any, Any]


def _classes() -> Made:
    truth, probabilities = calibrated(COUNT, 3, strength=1.0)
    return Classify(NAMES), probabilities, truth


def _numbers() -> Made:
    random = np.random.default_rng(0)
    truth = random.normal(size=(COUNT, 1)).astype(np.float32)
    task = Regress(("size",), (0.0,), (1.0,))
    return task, truth + random.normal(0, 0.3, truth.shape).astype(np.float32), truth


def _masks() -> Made:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (COUNT, 6, 7)).astype(np.uint8)
    wrong = random.random(truth.shape) < random.random((COUNT, 1, 1))
    return Segment(NAMES), np.where(wrong, 0, truth).astype(np.uint8), truth


def _images() -> Made:
    random = np.random.default_rng(0)
    truth = random.random((COUNT, 1, 6, 6)).astype(np.float32)
    noise = random.normal(0, 1, truth.shape) * random.random((COUNT, 1, 1, 1))
    return Reconstruct((1, 6, 6), (0.0,), (1.0,)), (truth + noise).astype(np.float32), truth


def _boxes() -> Made:
    random = np.random.default_rng(0)
    first = random.integers(0, 40, (COUNT, 1, 2))
    kinds, zeros = random.integers(0, 3, (COUNT, 1, 1)), np.zeros((COUNT, 1, 1))
    truth = np.concatenate([first, first + 20, kinds, zeros], 2).astype(np.float32)
    moved = first + random.normal(0, 3, first.shape)
    scores = random.random((COUNT, 1, 1))
    return Detect(NAMES, (64, 64)), np.concatenate([moved, moved + 20, kinds, scores], 2).astype(np.float32), truth


EACH = pytest.mark.parametrize("make", [_classes, _numbers, _masks, _images, _boxes])


def _copied(values: Any) -> Any:
    return np.repeat(values, COPIES, axis=0)


def _width(ends: list[float]) -> float:
    return ends[1] - ends[0]


@EACH
def test_groups_of_copies_have_the_interval_of_one_each(make: Callable[[], Made]) -> None:
    task, decoded, truth = make()
    key = f"{task.headline}_interval"
    copies = _copied(decoded), _copied(truth)
    alone, plain = _width(task.interval(decoded, truth)[key]), task.interval(*copies)
    assert _width(task.interval(*copies, GROUPS)[key]) == pytest.approx(alone, rel=0.15)
    assert _width(plain[key]) < 0.7 * alone
    assert task.interval(*copies, [""] * len(GROUPS)) == plain, "no groups"


@EACH
def test_evaluation_json_has_the_interval_of_metrics_json(make: Callable[[], Made]) -> None:
    task, decoded, truth = make()
    decoded, truth = _copied(decoded), _copied(truth)
    tensors = torch.as_tensor(decoded), torch.as_tensor(truth)
    known = task.interval(decoded, truth, GROUPS)
    confusion, rows = task.table_of_classes(decoded, truth)
    evaluation = Evaluation(
        "made", "test", task.name, getattr(task, "classes", ()), len(truth), task.measure(*tensors) | known, decoded,
        truth, np.arange(len(truth)), confusion, rows, shown=task.metrics, predicted=task.predicted(decoded),
    )  # fmt: skip
    facts = SampleFacts(tuple(map(str, range(len(truth)))), (), {"group": tuple(GROUPS)})
    figures = task.assess(evaluation, facts, None, ("size",)).figures
    for key, ends in known.items():
        if key.endswith("_interval"):
            interval = figures[key.removesuffix("_interval")].interval
            assert [interval.low, interval.high] == pytest.approx(ends), key


def test_an_accuracy_says_over_how_many_groups_its_interval_is() -> None:
    task, decoded, truth = _classes()
    found = task.interval(_copied(decoded), _copied(truth), GROUPS)
    assert found["accuracy_interval_method"] == "bootstrap over 40 groups"
    assert "accuracy_interval_method" not in task.interval(decoded, truth)
    title = Evaluation(
        "made", "test", "classify", NAMES, 160, {"n": 160, "accuracy": 0.5} | found, None, None, np.arange(160),
        shown=task.metrics,
    )  # fmt: skip
    assert "(bootstrap over 40 groups)" in str(title)


def test_few_groups_and_groups_that_are_all_right_have_an_interval() -> None:
    right = np.ones(60)
    found = hits_interval(right, [f"{number // 2}" for number in range(60)])
    assert (found.low, found.high) == (wilson(30, 30).low, 1.0)
    assert found.method == "Wilson over 30 groups"
    few = hits_interval(np.arange(60) % 2, [f"{number // 20}" for number in range(60)])
    assert few.high - few.low > 0.6
    assert hits_interval(right, ()) == wilson(60, 60)
