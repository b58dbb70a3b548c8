"""The picture of ImageNet's progress: a bar a result, the human's line, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.models.catalog.history import HISTORY
from striate.visualize.imagenet_history import imagenet_history_figure, save_imagenet_history


def test_every_result_is_a_bar_with_its_number_and_name() -> None:
    (axes,) = imagenet_history_figure().axes
    assert [bar.get_width() for bar in axes.patches] == [r.top5 for r in HISTORY]
    assert [text.get_text() for text in axes.texts] == [f"{r.top5:g}" for r in HISTORY]
    for label, result in zip(axes.get_yticklabels(), HISTORY, strict=True):
        assert result.network in label.get_text()
        assert label.get_text().endswith(str(result.year))
    (line,) = axes.lines
    assert set(line.get_xdata()) == {5.1}
    low, high = axes.get_ylim()
    assert low > high  # the first year on top


def test_winners_stand_out() -> None:
    (axes,) = imagenet_history_figure().axes
    for bar, result in zip(axes.patches, HISTORY, strict=True):
        assert (bar.get_alpha() == 1) == (result.place in (None, 1))


def test_without_a_human_there_is_no_line() -> None:
    (axes,) = imagenet_history_figure([r for r in HISTORY if r.method != "human"]).axes
    assert not axes.lines
    assert len(axes.get_legend().get_patches()) == 2


def test_nothing_is_cut_off() -> None:
    figure = imagenet_history_figure()
    figure.canvas.draw()
    edge = figure.bbox
    for axes in figure.axes:
        for text in (*axes.texts, *axes.get_yticklabels(), axes.xaxis.label, axes._left_title):
            box = text.get_window_extent()
            assert edge.x0 <= box.x0 <= box.x1 <= edge.x1
            assert edge.y0 <= box.y0 <= box.y1 <= edge.y1


def test_the_line_runs_through_no_number_and_titles_begin_where_bars_do() -> None:
    figure = imagenet_history_figure()
    figure.canvas.draw()
    (axes,) = figure.axes
    line = axes.transData.transform((5.1, 0))[0]
    for text in axes.texts:
        box = text.get_window_extent()
        assert not box.x0 - 1 <= line <= box.x1 + 1, text.get_text()
    left = [text.get_window_extent().x0 for text in (figure._suptitle, axes._left_title)]
    assert left == pytest.approx([axes.get_window_extent().x0] * 2, abs=2)


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_same_records_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    first, second = (save_imagenet_history(tmp_path / f"{k}.{ending}").read_bytes() for k in "ab")
    assert first == second
