"""Sets of classes hold the true one as often as promised; scores tell what is known."""

from __future__ import annotations

import numpy as np
import pytest

from striate.statistics.conformal import calibrate, fewest_for, measure_detection


def _drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a network that is too sure of itself, and the classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, n)
    logits = rng.normal(size=(n, 5)) + 1.5 * np.eye(5)[truth]
    table = np.exp(3 * logits)
    return table / table.sum(1, keepdims=True), truth


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_coverage_is_what_is_promised(rate: float) -> None:
    held = []
    for seed in range(200):
        probabilities, truth = _drawn(seed, 300)
        conformal = calibrate(probabilities[:100], truth[:100], rate)
        held.append(conformal.sets(probabilities[100:])[np.arange(200), truth[100:]].mean())
    assert np.mean(held) == pytest.approx(1 - rate, abs=0.012)


def test_the_quantile_is_that_of_the_definition() -> None:
    probabilities, truth = _drawn(0, 39)
    conformal = calibrate(probabilities, truth, 0.1)
    true = probabilities[np.arange(39), truth]
    assert (true < conformal.least).sum() == 3, "the 4th smallest of 39: 4 = floor(0.1 × 40)"
    assert calibrate(probabilities[:18], truth[:18], 0.05).least == 0
    assert fewest_for(0.05) == 19
    assert calibrate(probabilities[:19], truth[:19], 0.05).least > 0


def test_detection_is_the_area_of_pairs() -> None:
    rng = np.random.default_rng(0)
    known, unknown = np.round(rng.normal(1, 1, 80), 1), np.round(rng.normal(0, 1, 60), 1)
    found = measure_detection(known, unknown)
    wins = np.sign(np.subtract.outer(known, unknown))
    assert found.auroc == pytest.approx((wins.mean() + 1) / 2)
    assert found.auroc_interval.low < found.auroc < found.auroc_interval.high
    least = np.sort(known)[4]
    assert (known >= least).mean() >= 0.95
    assert found.fpr95 == (unknown >= least).mean()
    assert measure_detection([1.0, 2.0], [0.0]).auroc == 1
