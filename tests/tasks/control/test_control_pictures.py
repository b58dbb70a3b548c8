"""Pictures of a network that plays."""

from __future__ import annotations

import numpy as np
import pytest

from striate.tasks.control.play import Played
from striate.tasks.control.show import returns_figure, returns_histogram


def evaluations(count):
    keys = ("train_return", "train_return_low", "train_return_high", "train_loss", "value")
    ends = {"val_return": 0.7, "val_return_low": 0.5, "val_return_high": 0.9}
    return [{"epoch": k, "step": 400 * k, **dict.fromkeys(keys, 0.3), **ends} for k in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 3])
def test_the_curves_begin_at_step_0_and_a_single_evaluation_can_be_seen(count):
    figure = returns_figure(evaluations(count), "t", 1)
    for axes in figure.axes:
        assert axes.get_xlim()[0] == 0
        assert axes.get_xlim()[1] > 400 * count
        assert (axes.lines[0].get_marker() == "o") == (count == 1)
    assert len(figure.axes[0].collections) == 2  # an interval of each split
    low, high = figure.axes[0].collections[1].get_datalim(figure.axes[0].transData).intervaly
    assert (low, high) == pytest.approx((0.5, 0.9))


def test_the_standard_deviation_of_returns_has_its_name():
    played = Played(np.array([1.0, 3.0]), np.array([5, 5]), np.array([False, False]), np.array([10]), None)
    assert played.metrics()["return_std"] == pytest.approx(2**0.5)


def test_few_returns_have_a_bar_each():
    returns = np.repeat([-1.0, 1.0], [3, 7])
    axes = returns_histogram(Played(returns, np.ones(10), np.zeros(10, bool), np.ones(3), None), "t").axes[0]
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in axes.patches]
    assert bars == [(-1, 3), (1, 7)]
