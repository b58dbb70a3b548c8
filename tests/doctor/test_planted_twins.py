"""The planted faults of data, loss and fit are faults: without its mistake each setup learns, with it less or not."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from planted import (
    data_faults_inputs,
    data_faults_labels,
    data_faults_order,
    data_faults_shift,
    data_faults_splits,
    fit_faults,
    loss_faults_task,
    loss_faults_values,
)
from planted.case import FAULTS, Case, Fault
from planted.learning import accuracy, answers, explained, learn

MODULES = {
    module.__name__
    for module in (
        data_faults_inputs,
        data_faults_labels,
        data_faults_order,
        data_faults_shift,
        data_faults_splits,
        fit_faults,
        loss_faults_task,
        loss_faults_values,
    )
}
OURS = [fault for fault in FAULTS if fault.build.__module__ in MODULES]

EPOCHS = 12
# What is wrong in both parts shows only against the true labels.
JUDGED_BY_THE_TRUTH = ("data.labels-random", "fit.cannot-overfit-batch")
# Noise and repetition cost probability before accuracy; a validation that knows the predictions flatters; a plateau is
# seen
# in the loss, and a fit in both parts.
OTHERWISE = (
    *("data.label-noise", "data.duplicates", "data.leak", "data.label-range"),
    *("loss.initial-off", "loss.degenerate", "fit.plateau", "fit.overfit"),
)


def score(case: Case, data: Any, truth: Any = None) -> float:
    """Balanced accuracy or R² on `data`; −1 where that is no number, or where the loss cannot be computed."""
    try:
        outputs, targets = answers(case, data)
    except (RuntimeError, IndexError):
        return -1.0
    classes = case.task == "classify"
    value = accuracy(outputs, targets) if classes else explained(outputs, targets)
    return value if math.isfinite(value) and bool(outputs.isfinite().all()) else -1.0


def trained(fault: Fault, fixed: bool, epochs: int = EPOCHS, seed: int = 0) -> tuple[Case, list[float]]:
    """The case after some epochs, and their losses; none where it cannot be trained."""
    case = fault.build(seed, fixed) if fixed else fault.build(seed)  # type: ignore[call-arg]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of broadcasting, in a few
        try:
            return case, learn(case, epochs)
        except (RuntimeError, IndexError):
            return case, []


def named(*codes: str) -> list[Any]:
    return [pytest.param(fault, id=fault.name) for fault in OURS if fault.code in codes]


def others() -> list[Any]:
    return [pytest.param(fault, id=fault.name) for fault in OURS if fault.code not in OTHERWISE]


@pytest.mark.slow
@pytest.mark.parametrize("fault", others())
def test_it_learns_without_the_mistake_and_less_with_it(fault: Fault) -> None:
    right, _ = trained(fault, True)
    wrong, _ = trained(fault, False)
    good = score(right, right.val)
    bad = score(wrong, right.val if fault.code in JUDGED_BY_THE_TRUTH else wrong.val)
    assert good > (0.8 if right.task == "classify" else 0.35)
    assert bad < good - 0.04


@pytest.mark.slow
@pytest.mark.parametrize("fault", named("data.label-noise", "data.duplicates"))
def test_noise_and_repetition_cost_likelihood_of_the_true_labels(fault: Fault) -> None:
    right, _ = trained(fault, True)
    wrong, _ = trained(fault, False)
    assert score(right, right.val) > 0.85
    assert loss_on_val(wrong, right) > 1.2 * loss_on_val(right)


@pytest.mark.slow
@pytest.mark.parametrize("fault", named("data.leak"))
def test_a_leak_flatters(fault: Fault) -> None:
    right, _ = trained(fault, True, epochs=30)
    wrong, _ = trained(fault, False, epochs=30)
    assert score(right, right.val) > 0.8
    assert loss_on_val(wrong) < loss_on_val(right)


@pytest.mark.slow
@pytest.mark.parametrize("fault", named("data.label-range", "loss.degenerate"))
def test_the_loss_says_nothing_or_cannot_be_computed(fault: Fault) -> None:
    """Where it can, the honest loss of the original is the measure."""
    right, _ = trained(fault, True)
    wrong, losses = trained(fault, False)
    if losses:
        assert loss_on_val(right) < loss_on_val(wrong, right) - 0.1
    assert right.task == "embed" or score(right, right.val) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("fault", named("loss.initial-off"))
def test_a_start_far_off_costs_time(fault: Fault) -> None:
    right, good = trained(fault, True)
    _, bad = trained(fault, False)
    assert score(right, right.val) > 0.8
    assert bad[0] > 2 * good[0]
    # What is lost on the way is more than two epochs at the original's first loss.
    assert sum(bad) - sum(good) > 2 * good[0]


@pytest.mark.slow
@pytest.mark.parametrize("fault", named("fit.overfit"))
def test_much_better_on_what_was_learned(fault: Fault) -> None:
    right, _ = trained(fault, True, epochs=6)
    wrong, _ = trained(fault, False, epochs=30)
    assert score(wrong, wrong.train) - score(wrong, wrong.val) > 0.2
    assert score(right, right.train) - score(right, right.val) < 0.15
    assert loss_on_val(right) < 0.8 * loss_on_val(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("fault", named("fit.plateau"))
def test_a_lower_rate_goes_on_where_this_one_does_not(fault: Fault) -> None:
    right, better = trained(fault, True, epochs=6)
    _, stuck = trained(fault, False, epochs=6)
    assert better[-1] < 0.7 * stuck[-1]
    assert min(stuck) > 0.6 * stuck[0]
    assert score(right, right.val) > 0.6


def loss_on_val(case: Case, judge: Case | None = None) -> float:
    """The mean loss over validation, by the loss of `judge` and its samples."""
    judge = judge or case
    outputs, _ = answers(case, judge.val)
    _, targets = answers(judge, judge.val)
    with torch.no_grad():
        return float(judge.loss(outputs, targets))
