"""Pictures of a search: what they mark, and what they leave out."""

from __future__ import annotations

import numpy as np
import pytest

from striate.visualize.canvas import save_figure
from striate.visualize.sweep_figures import Dimension, Point, importance_figure, progress_figure, slices_figure

RUNGS = ("a ninth", "a third", "all")


def points(bad: float | None = None) -> list[Point]:
    made = np.random.default_rng(0)
    found = []
    for number in range(12):
        first = 0.9 + 0.05 * float(made.random())
        scores = (first, first + 0.01, first + 0.02)[: 1 + number % 3]
        fields = {
            "optim.lr": 10 ** float(made.uniform(-4, -1)),
            "augment.shift": number % 4,
            "model.name": "ab"[number % 2],
        }
        found.append(Point(number, scores, fields))
    return [*found, Point(12, (bad,), found[0].fields)] if bad is not None else found


DIMENSIONS = (
    Dimension("optim.lr", 1e-4, 0.1, log=True),
    Dimension("augment.shift", 0, 3, whole=True),
    Dimension("model.name", choices=("a", "b")),
)


def marks(axes) -> int:
    return sum(len(collection.get_offsets()) for collection in axes.collections)


def test_every_training_is_a_mark_and_the_line_is_the_best_whole_one() -> None:
    (axes,) = progress_figure(points(), RUNGS, metric="accuracy", title="set").axes
    assert marks(axes) == sum(len(p.scores) for p in points())
    (line,) = axes.lines
    whole = [p.scores[2] for p in points() if len(p.scores) == 3]
    assert line.get_ydata()[-1] == max(whole)
    assert line.get_ydata().tolist() == sorted(line.get_ydata())


def test_where_lower_is_better_the_line_falls() -> None:
    (axes,) = progress_figure(points(), RUNGS, metric="rmse", title="set", lower=True).axes
    assert axes.lines[0].get_ydata()[-1] == min(p.scores[2] for p in points() if len(p.scores) == 3)


def test_each_field_has_a_panel_with_its_scale() -> None:
    panels = slices_figure(points(), DIMENSIONS, RUNGS, metric="accuracy", title="set").axes
    assert [axes.get_title(loc="left") for axes in panels] == [d.field for d in DIMENSIONS]
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear"]
    assert all(marks(axes) == sum(len(p.scores) for p in points()) for axes in panels)
    assert [label.get_text() for label in panels[2].get_xticklabels()] == ["a", "b"]


def test_a_trial_that_went_wrong_does_not_squeeze_the_others_and_lies_at_the_edge() -> None:
    (axes,) = progress_figure(points(bad=0.1), RUNGS, metric="accuracy", title="set").axes
    assert axes.get_ylim()[0] > 0.5
    assert marks(axes) == sum(len(p.scores) for p in points(bad=0.1))
    low = axes.get_ylim()[0]
    at_the_edge = {x for c in axes.collections for x, y in c.get_offsets() if y == low}
    assert at_the_edge == {p.number for p in points(bad=0.1) if min(p.scores) < low}
    assert 12 in at_the_edge


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_any_number_of_fields_is_drawn(tmp_path, count: int) -> None:
    dimensions = [Dimension(f"field.{k}", 0, 1) for k in range(count)]
    drawn = [Point(k, (0.5,), {d.field: k / 5 for d in dimensions}) for k in range(5)]
    figure = slices_figure(drawn, dimensions, RUNGS, metric="accuracy", title="set")
    assert save_figure(figure, tmp_path / "f.png").stat().st_size > 0


def test_the_longest_bar_is_on_top() -> None:
    (axes,) = importance_figure({"a": 0.1, "b": 0.7, "c": 0.2}, title="set").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c", "b"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([10, 20, 70])
