"""Pictures beside findings: what they show, also of numbers that are none."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from striate.visualize.finding_picture import bars_figure, images_figure, lines_figure


def drawn(figure: Figure) -> Figure:
    figure.canvas.draw()
    return figure


def test_curves_that_diverge_leave_the_picture() -> None:
    series = {"as given": (2.3, 40.0, 1e21, math.nan), "as tried": (2.3, 1.0, 0.4, 0.01)}
    [axes] = drawn(lines_figure("Loss by step", series)).axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[1] == 2300
    assert all("$" not in label.get_text() for label in axes.get_yticklabels())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(series)


def test_curves_of_nothing_but_what_is_no_number() -> None:
    drawn(lines_figure("Loss by step", {"as given": (math.nan, math.inf)}))


def test_no_more_bars_than_can_be_read() -> None:
    [axes] = drawn(bars_figure("Dead units", [f"layer {n}" for n in range(40)], [n / 40 for n in range(40)])).axes
    assert len(axes.patches) == 24
    assert axes.get_title(loc="left") == "Dead units (the first 24 of 40)"


def test_images_in_gray_and_color() -> None:
    images = [np.zeros((3, 4, 5)), np.full((1, 4, 5), 255.0), np.zeros((4, 5))]
    figure = drawn(images_figure("Copies", images, ["train 1", "val 7", "val 8"]))
    assert [axes.get_title() for axes in figure.axes] == ["train 1", "val 7", "val 8"]
