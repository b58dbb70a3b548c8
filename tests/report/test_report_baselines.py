"""The section "Is the network worth it?": table, sentences, picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_runs import classification, make_content, regression, segmentation, task_of
from markupsafe import escape
from PIL import Image

from striate.report.baselines import Compared, baseline_table, describe_baselines, draw_baselines, explain_baseline
from striate.report.write import render_report
from striate.tasks.baseline import Baseline

TITLE = "Is the network worth it?"
OF = "test split of made"


def made_baselines(evaluation, note=""):
    """A baseline that is as good as the network, and one that always gives the first answer."""
    found = []
    for name in ("majority class", "<b>SVM</b>"):
        decoded = np.repeat(evaluation.decoded[:1], evaluation.n, 0) if found else evaluation.decoded
        metrics = {key: value for key, value in evaluation.metrics.items() if key not in ("loss", "top5")}
        made = Baseline(name, "What it is.", "edges", {"C": 0.1, "trees": 50}, 1234, 5.25, metrics, note, decoded)
        found.append(Compared(made, task_of(evaluation).compare_baseline(evaluation, made)))
    return found


def network(evaluation):
    return evaluation.metrics | {"n_train": 99, "seconds": 1.5}


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize("evaluation", [classification(), regression(), segmentation()], ids=lambda e: e.task)
def test_the_page_has_the_table_the_sentences_and_the_picture(tmp_path, evaluation):
    compared = made_baselines(evaluation)
    content = make_content(tmp_path, evaluation)
    task = task_of(evaluation)
    picture = draw_baselines(tmp_path, compared, evaluation, task)
    assert picture.caption.endswith("left is better." if task.name == "regress" else "right is better.")
    with Image.open(picture.path) as image:
        image.verify()
    baselines = describe_baselines(compared, network(evaluation), OF)
    page = render_report(replace(content, baselines=baselines, pictures=(*content.pictures, picture)))
    assert TITLE in page
    assert "<b>" not in page
    told = [page.count(escape(entry.comparison.sentence)) for entry in compared]
    assert sorted(told) == [1, 2], "the strongest is told at the top too"
    assert "The network beside its baselines" in page
    assert "Chosen on the validation split: C = 0.1, trees = 50." in page
    assert TITLE not in render_report(content)


def test_rows_are_the_figures():
    evaluation = classification()
    compared = made_baselines(evaluation)
    table = baseline_table([entry.baseline for entry in compared], OF, network(evaluation))
    assert table.caption == "On the test split of made"
    assert table.columns == ("method", "accuracy", "95 % interval", "macro F1", "learned from", "seconds")
    assert [row[0] for row in table.rows] == ["this network", "majority class", "<b>SVM</b>"]
    assert table.rows[0][-2:] == ("99", "1.5")
    assert table.rows[1][-2:] == ("1,234", "5.2")
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert baseline_table([compared[0].baseline], OF).rows[0][0] == "majority class"


def test_of_masks_pixels_are_not_taken_for_images():
    evaluation = segmentation()
    rows = baseline_table([made_baselines(evaluation)[0].baseline], OF, network(evaluation)).rows
    assert [row[-2] for row in rows] == ["99 images", "1,234 pixels"]


def test_features_are_named_once():
    made = made_baselines(regression())[0].baseline
    assert "Its features: edges." in explain_baseline(made)
    assert explain_baseline(replace(made, what="A line over edges.")).count("edges") == 1


def test_what_was_cut_short_is_said():
    evaluation = regression()
    compared = made_baselines(evaluation, "Learned from 5.")
    baselines = describe_baselines(compared, network(evaluation), OF)
    assert baselines.strongest == compared[0].comparison.sentence, "not the last one's"
    assert all(text.endswith("Learned from 5.") for text in baselines.explanations)
    assert baselines.table.columns == ("method", "RMSE", "MAE", "R²", "learned from", "seconds")
