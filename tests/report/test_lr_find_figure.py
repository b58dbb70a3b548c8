"""The picture of a search for a learning rate shows what the record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from striate.errors import RunError
from striate.report.lr_find import lr_find_figure, save_lr_find
from striate.training.learning_rate.records import Halving, LearningRateSearch, RangePoint, RateResult, RateTrial

RATES = (
    RateResult(0.001, 1.2, 1.1, 1.3, 2, False),
    RateResult(0.003, 0.4, 0.3, 0.5, 2, True),
    RateResult(0.01, 0.45, 0.4, 0.5, 2, True),
    RateResult(0.1, None, None, None, 1, False),
)
SEARCH = LearningRateSearch(
    optimizer="adamw",
    suggestion=0.005,
    low=0.003,
    high=0.01,
    why="because",
    configured=0.02,
    origin="recipe",
    configured_is_good=False,
    diverges_at=0.2,
    start=2.3,
    constant=2.2,
    held_out_samples=431,
    steps=100,
    run_steps=100,
    seconds=9.0,
    rates=RATES,
    trials=(RateTrial(0.003, 0, 2.3, 0.3, 0.3, False),),
    halvings=(Halving(0.2, 2.3, 9.0, True), Halving(0.1, 2.3, 2.0, False)),
    range_test=tuple(RangePoint(10.0**k, 2.3 - 0.2 * k % 1, 2.3) for k in range(-7, 1)),
)


def test_trials_have_whiskers_and_marks_stand_where_the_record_says() -> None:
    figure = lr_find_figure(SEARCH, title="t")
    upper, lower = figure.axes
    assert list(upper.lines[0].get_xdata()) == [p.lr for p in SEARCH.range_test]
    whiskers = [c for c in lower.collections if isinstance(c, LineCollection)]
    ends = sorted(tuple(segment[:, 1].round(6)) for c in whiskers for segment in c.get_segments())
    assert ends == [(0.3, 0.5), (0.4, 0.5), (1.1, 1.3)]
    crosses = next(line for line in lower.lines if line.get_label() == "diverged")
    assert list(crosses.get_xdata()) == [0.1]
    verticals = {line.get_label(): line.get_xdata()[0] for line in lower.lines if len(set(line.get_xdata())) == 1}
    assert verticals["suggestion 0.005"] == 0.005
    assert verticals["recipe 0.02"] == 0.02
    shade = next(p for p in lower.patches if isinstance(p, Rectangle))
    assert shade.get_x() < 0.003 < 0.01 < shade.get_x() + shade.get_width() < 0.02
    low, high = lower.get_xlim()
    assert low < 0.001
    assert high > 1


@pytest.mark.slow
def test_without_an_answer_there_is_no_suggestion_in_the_picture(tmp_path: Path) -> None:
    rates = tuple(replace(rate, good=False) for rate in RATES)
    search = replace(
        SEARCH, suggestion=None, low=None, high=None, configured_is_good=None, rates=rates, range_test=(), why="no"
    )
    figure = lr_find_figure(search, title="t")
    labels = [line.get_label() for line in figure.axes[1].lines]
    assert not any(str(label).startswith("suggestion") for label in labels)
    assert not figure.axes[1].patches
    path = save_lr_find(search, "digits", "a$very_long_name" * 9, tmp_path / "a.png")
    assert path.read_bytes() == save_lr_find(search, "digits", "a$very_long_name" * 9, tmp_path / "b.png").read_bytes()


def test_losses_of_several_decades_are_drawn_on_a_logarithmic_axis() -> None:
    assert lr_find_figure(SEARCH, title="t").axes[1].get_yscale() == "linear"
    tiny = replace(RATES[1], held_out=0.01, lowest=0.009, highest=0.011)
    figure = lr_find_figure(replace(SEARCH, rates=(RATES[0], tiny)), title="t")
    assert figure.axes[1].get_yscale() == "log"
    assert np.isfinite(figure.axes[1].get_ylim()).all()


def test_a_picture_that_cannot_be_written_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(RunError, match="taken"):
        save_lr_find(SEARCH, "d", "m", tmp_path / "taken.png")


def test_the_text_says_what_is_suggested_and_what_the_recipe_has() -> None:
    text = str(replace(SEARCH, command="striate train digits --lr 0.005"))
    lines = text.splitlines()
    assert lines[-1] == "striate train digits --lr 0.005"
    assert "learning rate 0.005, equally good from 0.003 to 0.01: because" in lines
    assert "the recipe would use 0.02 (adamw), outside that range" in lines
    assert any("diverged" in line and "0.1" in line for line in lines)
    assert SEARCH.to_json()["informative"] is True
