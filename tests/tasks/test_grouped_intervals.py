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
    figures = task.assess(evaluation, facts, None, ("size",)).metrics
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


def _copied_evaluation(
    task: Task, decoded: Any, truth: Any, groups: tuple[str, ...], split: str = "test"
) -> Evaluation:
    decoded, truth = _copied(decoded), _copied(truth)
    confusion, rows = task.table_of_classes(decoded, truth, groups)
    metrics = task.measure(torch.as_tensor(decoded), torch.as_tensor(truth)) | {"loss": 0.5}
    return Evaluation(
        "made", split, task.name, getattr(task, "classes", ()), len(truth), metrics, decoded, truth,
        np.arange(len(truth)), confusion, rows, shown=task.metrics, predicted=task.predicted(decoded), groups=groups,
    )  # fmt: skip


def test_figures_of_classes_and_their_averages_are_over_groups() -> None:
    task, decoded, truth = _classes()
    found = {}
    for name, groups in (("alone", ()), ("groups", tuple(GROUPS))):
        columns = {"group": groups} if groups else {}
        evaluation = _copied_evaluation(task, decoded, truth, groups)
        assessed = task.assess(
            evaluation, SampleFacts(tuple(map(str, range(len(truth) * COPIES))), (), columns), None, ()
        )
        first = assessed.classes[0]
        estimates = {
            key: assessed.metrics[key] for key in ("macro_f1", "balanced_accuracy", "weighted_precision", "top2")
        }
        estimates |= {"recall": first.recall, "precision": first.precision}
        ends = {key: (one.value, one.interval.low, one.interval.high) for key, one in estimates.items()}
        row = evaluation.per_class[0].recall_interval
        found[name] = ends | {"table": (first.recall.value, row.low, row.high)}
        assert (first.auc.interval is None) == bool(groups)
        assert (first.f1.interval is None) == bool(groups), "fewer than 20 groups have samples of the class"
        assert any("areas under curves" in sentence for sentence in assessed.left_out) == bool(groups)
    for key, (value, low, high) in found["groups"].items():
        plain, plain_low, plain_high = found["alone"][key]
        assert value == plain, key
        assert low <= value <= high, key
        assert high - low > 1.4 * (plain_high - plain_low), key
    assert found["groups"]["table"] == found["groups"]["recall"]


@EACH
def test_slices_of_copies_have_the_evidence_of_one_each(make: Callable[[], Made]) -> None:
    task, decoded, truth = make()
    facts = {"side": tuple(_copied(np.arange(COUNT) % 2).astype(str)), "group": tuple(GROUPS)}
    smallest = {}
    for name in ("alone", "groups"):
        columns = facts if name == "groups" else {"side": facts["side"]}
        evaluation = _copied_evaluation(task, decoded, truth, columns.get("group", ()))
        paths = tuple(map(str, range(evaluation.n)))
        slices = task.assess(evaluation, SampleFacts(paths, (), columns), None, ("size",)).slices
        smallest[name] = next(part.p_value for part in slices if part.by == "side")
    assert smallest["groups"] > smallest["alone"]


@EACH
def test_the_gap_is_over_groups(make: Callable[[], Made]) -> None:
    task, decoded, truth = make()
    widths = []
    for groups in ((), tuple(GROUPS)):
        train, val = (_copied_evaluation(task, decoded, truth, groups, split) for split in ("train", "val"))
        interval = task.gap(train, val).difference.interval
        widths.append(interval.high - interval.low)
    assert widths[1] > 1.4 * widths[0]


def test_groups_stay_with_the_part_of_training_that_is_measured() -> None:
    facts = SampleFacts(("a", "b", "c"), ((1, 2), (3, 4), (5, 6)), {"group": ("x", "y", "z")}).part([2, 0])
    assert (facts.paths, facts.sizes, facts.columns) == (("c", "a"), ((5, 6), (1, 2)), {"group": ("z", "x")})
