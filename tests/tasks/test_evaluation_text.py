from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from striate.statistics.intervals import wilson
from striate.tasks.classify.task import Classify
from striate.tasks.evaluation import ClassRow, Evaluation
from striate.tasks.regress.task import Regress

GOLDEN = """\
flowers, test split: 60 samples, 3 classes
  accuracy          90.00 %   95 % interval 79.85 % to 95.34 % (Wilson)
  macro F1          89.87 %
  loss              0.3125

  class              n  precision  recall  95 % interval     F1
  daisy             20      1.000   0.900  0.699 – 0.972  0.947
  roses             20      0.833   1.000  0.839 – 1.000  0.909
  sunflowers        20      0.889   0.800  0.584 – 0.919  0.842

  most frequent mistakes
        4 × sunflowers predicted as roses
        2 × daisy predicted as sunflowers"""


def made(names, confusion, metrics=None):
    confusion = np.array(confusion)
    rows = []
    for k, name in enumerate(names):
        hits, n, answered = confusion[k, k], int(confusion[k].sum()), confusion[:, k].sum()
        rows.append(
            ClassRow(
                name,
                n,
                float(hits / answered) if answered else None,
                float(hits / n) if n else None,
                float(2 * hits / (n + answered)) if n + answered else None,
                wilson(int(hits), n),
            )
        )
    n, hits = int(confusion.sum()), int(np.trace(confusion))
    interval = wilson(hits, n)
    values = {
        "n": n,
        "loss": 0.3125,
        "accuracy": hits / n,
        "accuracy_interval": [interval.low, interval.high],
    }
    empty = np.zeros(0)
    return Evaluation(
        "flowers",
        "test",
        "classify",
        tuple(names),
        n,
        values | (metrics or {}),
        empty,
        empty,
        empty,
        confusion,
        tuple(rows),
        shown=Classify.metrics,
    )


def test_golden():
    confusion = [[18, 0, 2], [0, 20, 0], [0, 4, 16]]
    metrics = {"top5": 1.0, "macro_f1": 0.8987}
    found = made(["daisy", "roses", "sunflowers"], confusion, metrics)
    assert str(found) == GOLDEN
    assert str(replace(found, counted="2 targets")).startswith("flowers, test split: 60 samples, 2 targets\n")


def test_regression_golden():
    empty = np.zeros(0)
    values = {"n": 1234, "loss": 10.0, "rmse": 3.16228, "mae": 2.5, "r2": 0.8712}
    assert str(
        Evaluation("boston", "val", "regress", (), 1234, values, empty, empty, empty, shown=Regress.metrics)
    ) == (
        "boston, val split: 1,234 samples\n"
        "  RMSE               3.162\n"
        "  MAE                  2.5\n"
        "  R²                0.8712\n"
        "  loss                  10"
    )


def test_eighty_columns_whatever_the_names():
    names = ["x" * 300, "向日葵" * 30, "\x1b[31mred\x1b[0m", "a\nb", *(f"class {k}" for k in range(96))]
    confusion = np.eye(100, dtype=int) * 1_000_000 + 1
    text = str(made(names, confusion))
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert "… and 80 more classes with higher recall" in text


def test_the_worst_classes_are_the_ones_listed():
    confusion = np.eye(30, dtype=int) * 10
    confusion[17] = 0
    confusion[17, 3] = 10
    lines = str(made([f"c{k:02}" for k in range(30)], confusion)).splitlines()
    assert lines[5].split()[0] == "c17"
    assert "10 × c17 predicted as c03" in lines[-1]


def test_an_unknown_metric_is_a_dash():
    empty = np.zeros(0)
    text = str(
        Evaluation("boston", "val", "regress", (), 1, {"n": 1, "r2": None}, empty, empty, empty, shown=Regress.metrics)
    )
    assert text.splitlines()[1].split() == ["R²", "–"]


def test_unknown_is_a_dash_and_no_mistakes_are_said():
    text = str(made(["a", "b"], [[5, 0], [0, 0]]))
    assert text.splitlines()[-3].split() == ["b", "0", "–", "–", "–", "–"]
    assert text.endswith("no mistakes")


@pytest.mark.slow
def test_the_record_and_its_text_do_not_import_torch():
    code = "import sys, striate.tasks.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_network_that_names_one_class_says_so_beside_its_figure() -> None:
    always = made(["healthy", "ill"], [[89, 0], [11, 0]])
    [finding] = Classify(always.classes).prediction_findings(always)
    assert (finding.code, finding.severity) == ("fit.one-class", "warning")
    assert finding.remedy.settings == {"task.class_weights": "balanced"}
    [finding] = Classify(always.classes).prediction_findings(made(["healthy", "ill"], [[50, 0], [48, 0]]))
    assert not finding.remedy.settings
    assert "It predicts healthy for every sample" in str(always)
    assert "predicts healthy for every sample" in Classify(always.classes).headline_text(always)[1]
    for other in (made(["healthy", "ill"], [[89, 0], [10, 1]]), made(["healthy", "ill"], [[100, 0], [0, 0]])):
        assert Classify(other.classes).prediction_findings(other) == ()
        assert "everywhere" not in str(other)
