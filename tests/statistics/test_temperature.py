"""The temperature finds what was planted, and calibrates answers that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from answers_made import assessed, calibrated
from striate.statistics.calibration import fit_temperature, measure_calibration, rare_class_note, with_temperature


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_a_planted_temperature_is_found(sharpness):
    found = fit_temperature(*calibrated(seed=1, sharpness=sharpness))
    assert found is not None
    assert found.interval.low < sharpness < found.interval.high
    assert found.value == pytest.approx(sharpness, rel=0.1)
    assert found.nll_after <= found.nll


def test_calibrated_answers_of_other_samples_have_a_lower_ece():
    temperature = fit_temperature(*calibrated(seed=1, sharpness=2.5))
    figures = assessed(*calibrated(seed=2, sharpness=2.5), temperature)
    assert figures.calibration.ece > figures.calibration.ece_by_chance[1]
    assert figures.calibrated.ece < figures.calibration.ece / 3
    assert figures.calibrated.nll < figures.calibration.nll
    assert figures.calibrated.ece <= 2 * figures.calibrated.ece_by_chance[1]


def test_calibrated_answers_are_within_what_chance_does():
    within = []
    for seed in range(30):
        figures = measure_calibration(*calibrated(600, seed=seed))
        within.append(figures.ece_by_chance[0] <= figures.ece <= figures.ece_by_chance[1])
    assert np.mean(within) >= 0.8


def test_a_temperature_changes_no_answer():
    _, probabilities = calibrated(500, sharpness=3)
    warm = with_temperature(probabilities, 2.0)
    np.testing.assert_array_equal(warm.argmax(1), probabilities.argmax(1))
    np.testing.assert_allclose(warm.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(with_temperature(probabilities, 1.0), probabilities, rtol=1e-4)


@pytest.mark.parametrize("right", [True, False])
def test_labels_that_do_not_tell_give_no_temperature(right):
    truth = np.arange(40) % 2
    answers = np.where(truth[:, None] == np.arange(2), 0.9, 0.1).astype(np.float32)
    assert fit_temperature(truth if right else 1 - truth, answers) is None


def test_probabilities_of_zero_are_survived():
    truth = np.array([0, 1, 1, 0, 1] * 8)
    answers = np.eye(2, dtype=np.float32)[np.array([0, 1, 0, 0, 1] * 8)]
    figures = measure_calibration(truth, answers)
    assert np.isfinite(figures.nll)
    found = fit_temperature(truth, answers)
    assert found is None or np.isfinite(found.value)


def test_a_class_with_few_samples_is_named() -> None:
    truth = np.array([0] * 40 + [1] * 3 + [2] * 12)
    assert rare_class_note(truth, ("well", "ill", "other")) == "only 3 of them are of ill"
    assert rare_class_note(truth[:43], ("well", "ill", "other")) == (
        "only 0 of them are of other, and of 1 more class fewer than 10"
    )
    assert rare_class_note(np.zeros(10, np.int64), ("well",)) == ""
