"""Parts of reports that several tasks share."""

from __future__ import annotations

import numpy as np
import pytest

from striate.statistics.estimate import Estimate
from striate.tasks.headline import judged_gap
from striate.tasks.show import worst_typical_best


@pytest.mark.parametrize(("n", "each"), [(100, 10), (30, 10), (12, 4), (3, 1)])
def test_no_sample_is_among_the_worst_and_the_typical_and_the_best(n, each):
    worst, typical, best = worst_typical_best(np.arange(n), 10)
    assert len(worst) == len(typical) == len(best) == each
    assert len({*worst.tolist(), *typical.tolist(), *best.tolist()}) == 3 * each
    assert worst[0] == 0
    assert best[0] == n - 1


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "no difference"), (1e-6, "no difference"), (-0.05, "5.00 points better on validation")],
)
def test_a_gap_of_nothing_is_on_no_side(value, said):
    assert judged_gap(Estimate(value), 100, " points better") == f"{said}; too few samples for an interval."
