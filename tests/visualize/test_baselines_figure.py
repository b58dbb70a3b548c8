"""The picture of the network beside its baselines."""

from __future__ import annotations

import pytest

from striate.visualize.estimates import baselines_figure


def drawn(values, intervals, share):
    names = [f"method {k} with a name that is far too long" for k in range(len(values))]
    return baselines_figure(names, values, intervals, metric="accuracy", title="made", share=share).axes[0]


def test_a_row_a_method_with_its_value_and_interval():
    intervals = [(0.4, 0.6), (0.1, 0.3), (0.9, 1.0)]
    axes = drawn([0.5, 0.2, 0.95], intervals, True)
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["50.0 %", "20.0 %", "95.0 %"]
    points = [line for line in axes.lines if line.get_marker() in ("D", "o")]
    assert [float(line.get_xdata()[0]) for line in points] == [0.5, 0.2, 0.95]
    spans = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 2]
    assert spans == intervals
    assert points[0].get_color() != points[1].get_color() == points[2].get_color()
    low, high = axes.get_xlim()
    assert low <= 0
    assert high >= 1
    assert "interval" in axes.get_xlabel()
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the network is on top


@pytest.mark.parametrize("values", [[2.5, 7.0], [0.0, 0.0], [1e6, 3.0]])
def test_numbers_without_intervals(values):
    axes = drawn(values, [None, None], False)
    low, high = axes.get_xlim()
    assert low <= 0
    assert high > max(values)
    assert axes.get_xlabel() == "accuracy"
