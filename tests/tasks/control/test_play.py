"""What episodes came to."""

from __future__ import annotations

import numpy as np
import pytest

from striate.statistics.intervals import wilson
from striate.tasks.control.play import mean_interval


@pytest.mark.parametrize(("won", "lost"), [(100, 0), (60, 40), (10, 0), (0, 100)])
def test_games_that_are_won_or_lost_have_the_interval_of_a_share(won: int, lost: int) -> None:
    found, share = mean_interval(np.repeat([1.0, -1.0], [won, lost])), wilson(won, won + lost)
    assert (found.low, found.high) == pytest.approx((2 * share.low - 1, 2 * share.high - 1))
    assert found.low < found.high
    assert found.method == "Wilson"
