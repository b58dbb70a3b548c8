"""Reliability, rank curves and estimates: what is drawn is what the record says, and nothing is cut off."""

from __future__ import annotations

import numpy as np
import pytest

from striate.visualize.canvas import new_figure, show_literally
from striate.visualize.classification_charts import draw_precision_recall, draw_reliability, draw_roc
from striate.visualize.estimates import SHOWN, draw_bias, draw_slices

NASTY = [r"$\alpha_1$", "<b>", "a_very_long_class_name_with_underscores_that_goes_on", "x", "y", "z"]


def drawn(draw, *arguments, **options):
    figure = new_figure(4.5, 3.2)
    axes = figure.subplots()
    draw(axes, *arguments, **options)
    show_literally(figure)
    figure.canvas.draw()
    texts = [axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels()]
    for text in [*texts, *(text for legend in figure.legends for text in legend.get_texts())]:
        if not text.get_text():
            continue
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
    return axes


def estimate(value, width=0.1):
    return {"value": value, "interval": [value - width, value + width], "method": "Wilson"}


def bins(counts, shift=0.0):
    edges = np.linspace(0, 1, len(counts) + 1)
    made = []
    for low, high, n in zip(edges, edges[1:], counts, strict=False):
        middle = (low + high) / 2
        accuracy = {**estimate(max(0.0, middle - shift), 0.05)} if n else {"value": None, "interval": None}
        made.append({"low": low, "high": high, "n": n, "confidence": middle if n else None, "accuracy": accuracy})
    return made


def test_reliability_draws_every_bin_that_has_answers():
    axes = drawn(draw_reliability, bins([0, 3, 20, 50, 100]), bins([0, 0, 40, 40, 93]))
    labels = [line.get_label() for line in axes.lines]
    assert {"perfectly calibrated", "as predicted", "after temperature scaling"} <= set(labels)
    line = axes.lines[labels.index("as predicted")]
    assert list(line.get_xdata()) == pytest.approx([0.5, 0.7, 0.9])  # not through the bin of three answers
    assert max(bar.get_height() for bar in axes.patches) == pytest.approx(0.22)
    points = [line.get_xdata() for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 1]
    assert len(points) == 4 + 3


def test_reliability_of_no_answers_is_an_empty_diagram():
    assert drawn(draw_reliability, bins([0, 0])).get_xlabel()


@pytest.mark.parametrize(("draw", "figure"), [(draw_roc, "auc"), (draw_precision_recall, "average_precision")])
@pytest.mark.parametrize("names", [NASTY, [*NASTY, "plain"]], ids=["all", "weakest"])
def test_all_of_few_classes_are_named_and_the_weakest_of_many(draw, figure, names):
    points = tuple(np.linspace(0, 1, 5))
    curves = [
        {"name": n, "false_positive_rate": points, "true_positive_rate": points, "recall": points, "precision": points}
        for n in names
    ]
    classes = [{"name": n, figure: estimate(0.9 - 0.1 * k)} for k, n in enumerate(names)]
    axes = drawn(draw, curves, classes)
    [legend] = axes.get_figure().legends
    shown = [text.get_text() for text in legend.get_texts()]
    if names == NASTY:
        assert shown == ["z 0.400", "y 0.500", "x 0.600", "a_very_long_class… 0.700", "<b> 0.800", r"$\alpha_1$ 0.900"]
    else:
        assert shown == ["3 more", "plain 0.300", "z 0.400", "y 0.500", "x 0.600"]
    assert legend.get_window_extent().y1 <= axes.get_window_extent().y0  # below: no curve is covered


@pytest.mark.parametrize("count", [2, 9])
def test_a_class_has_the_same_color_in_both_diagrams(count):
    points, names = tuple(np.linspace(0, 1, 5)), [f"class {k}" for k in range(count)]
    keys = ("false_positive_rate", "true_positive_rate", "recall", "precision")
    curves = [{"name": name, **dict.fromkeys(keys, points)} for name in names]
    classes = [
        {"name": name, "auc": estimate(0.9 - 0.05 * k), "average_precision": estimate(0.3 + 0.05 * k)}
        for k, name in enumerate(names)
    ]
    colors = [
        {line.get_label().rsplit(" ", 1)[0]: line.get_color() for line in drawn(draw, curves, classes).lines[-4:]}
        for draw in (draw_roc, draw_precision_recall)
    ]
    assert {name: colors[0].get(name) for name in names[:4]} == {name: colors[1].get(name) for name in names[:4]}
    assert colors[1]["class 0"]


def test_slices_that_differ_are_drawn_first_where_there_are_many():
    made = [
        {"by": "column", "name": f"value {k}", "n": 9, "value": estimate(0.5), "p_value": 0.1, "differs": k == 39}
        for k in range(40)
    ]
    axes = drawn(draw_slices, made, 0.6)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == SHOWN
    assert names[-1] == "column value 39"


def test_a_range_without_an_interval_is_a_point():
    figures = {"bias": {"value": 0.5, "interval": None}}
    ranges = [
        {"low": 0, "high": 1, "n": 5, "metrics": figures},
        {"low": 1, "high": 2, "n": 50, "metrics": {"bias": estimate(-1)}},
    ]
    axes = drawn(draw_bias, ranges, "price in $")
    assert axes.get_ylabel() == "true price in $"
