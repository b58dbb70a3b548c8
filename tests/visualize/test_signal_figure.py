"""The figure of signal and gradient by layer: what it draws, and that nothing is cut off."""

import numpy as np
import pytest

from striate.account.signal.trace import SignalRow
from striate.visualize.canvas import save_figure
from striate.visualize.signal_figure import signal_figure


def rows(count, std=1.0):
    made = []
    for k in range(count):
        made.append(SignalRow(f"body.$block_{k}$.conv", "weights", 4, 0.0, std * 2.0**-k, 0.5))
        made.append(SignalRow(f"relu{k}", "relu", 4, 0.0, std, None, None, 0.1))
    return tuple(made)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 2), (60, 2)])
def test_every_layer_is_drawn_and_named_within_the_figure(tmp_path, count, columns):
    figure = signal_figure(rows(count), rows(count, 3.0) if columns == 2 else (), title="t")
    save_figure(figure, tmp_path / "x.png")
    assert len(figure.axes) == 2 * columns
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), [2.0**-k for k in range(count)])
    np.testing.assert_allclose(figure.axes[columns].lines[0].get_ydata(), [0.5 * 2] * count)
    assert np.isnan(figure.axes[columns].lines[1].get_ydata()).all()
    labels = figure.axes[columns].get_xticklabels()
    assert 0 < len(labels) <= 12
    renderer, box = figure.canvas.get_renderer(), figure.bbox
    for label in labels:
        extent = label.get_window_extent(renderer)
        assert extent.y0 >= box.y0
        assert extent.x1 <= box.x1


def test_what_a_logarithm_cannot_show_leaves_a_gap(tmp_path):
    bad = (SignalRow("a", "weights", 1, 0.0, 0.0, float("inf")), SignalRow("b", "weights", 1, 0.0, float("nan"), 0.0))
    figure = signal_figure(bad, title="t")
    save_figure(figure, tmp_path / "x.png")
    assert all("not measured" in [text.get_text() for text in axes.texts] for axes in figure.axes)
    save_figure(signal_figure((), rows(2), title="t"), tmp_path / "y.png")
