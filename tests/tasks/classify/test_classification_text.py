"""The text stays within 80 columns and on its lines, whatever the names are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

from answers_made import calibrated, data_of, evaluated, task_of
from striate.evaluation.assessment import assess_split
from striate.statistics.calibration import fit_temperature, measure_calibration
from striate.tasks.assessment import Assessment, with_paths

NAMES = [
    "short",
    "a name that goes on and on and on and on without an end in sight",
    "名前" * 20,
    "two\nlines \x1b[31m",
]


def text_of(names, columns, scale=1.0, temperature=None):
    truth, probabilities = calibrated(400, len(names), seed=1, sharpness=2.5 * scale)
    evaluation = evaluated(truth, probabilities, classes=tuple(names))
    gap = {"sentence": "Training 99.00 %, validation 90.00 %: 9.00 points better on training."}
    temperature = temperature or fit_temperature(truth, probabilities)
    figures = assess_split(task_of(evaluation), evaluation, data_of(400, columns=columns), temperature)
    metrics = {**evaluation.metrics, "accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}
    return str(replace(evaluation, metrics=metrics, figures=figures, temperature=temperature, gap=gap))


@pytest.mark.parametrize("names", [NAMES, NAMES[1:3]])
def test_no_line_is_longer_than_80_columns(names):
    column = tuple(np.where(np.arange(400) % 2, NAMES[1], NAMES[2]))
    for line in text_of(names, {NAMES[1]: column}).split("\n"):
        assert cell_len(line) <= 80, line
        assert line.isprintable()


def test_paths_are_whole_whatever_their_length():
    assert with_paths("  12.0 %  dog", "a/b.png") == ["  12.0 %  dog a/b.png"]
    long = "photos of the summer/" * 4 + "IMG 0001.png"
    assert with_paths("  12.0 %  dog   ", long) == ["  12.0 %  dog", f"      {long}"]


def test_the_verdict_of_a_network_that_is_too_sure():
    text = text_of(["a", "b", "c"], {})
    assert "the network is overconfident by" in text
    assert "fitted on val (n = 400)" in text
    assert "9.00 points better on training." in text
    assert "underconfident by" in text_of(["a", "b", "c"], {}, scale=0.15)


def test_a_temperature_that_makes_it_worse_is_not_advised():
    fitted = fit_temperature(*calibrated(400, 3, seed=1, sharpness=2.5))
    advice = "does not help: leave the probabilities as they are"
    assert advice not in text_of(["a", "b", "c"], {})
    few = f"only 3 of them are of {NAMES[1]}, and of 12 more classes fewer than 10"
    text = text_of(["a", "b", "c"], {}, temperature=replace(fitted, value=20.0, few=few))
    assert advice in text
    assert few in " ".join(text.split()), "no warning is cut"


def test_the_verdict_where_errors_cancel():
    """Half of the answers too sure by 15 points, half not sure enough by 14."""
    said = np.where(np.arange(2000) % 2, 0.95, 0.6)
    right = np.arange(2000) // 2 < np.where(np.arange(2000) % 2, 800, 740)
    probabilities = np.stack([said, 1 - said], 1).astype(np.float32)
    calibration = measure_calibration((~right).astype(np.int64), probabilities)
    assert calibration.ece == pytest.approx(0.145, abs=1e-3)
    assert calibration.overconfidence == pytest.approx(0.005, abs=1e-3)
    assert calibration.over_and_under == pytest.approx((0.95, 0.6))
    evaluation = evaluated((~right).astype(np.int64), probabilities)
    figures = assess_split(task_of(evaluation), evaluation, data_of(2000), None)
    lines = [line for part in figures.lines(None) for line in part]
    assert "    the network is overconfident around 95 %, underconfident around 60 %" in lines
    assessment = Assessment("classify", "made", (), None, None, {"test": figures})
    sections = task_of(evaluation).sections(assessment, figures, "test split of made")
    (said,) = next(section.sentences for section in sections if "trust" in section.title)
    assert said.endswith(
        "the network is overconfident where its confidence is about 95 %, and underconfident where it is about 60 %."
    )


def test_chance_does_not_make_two_directions_of_one():
    """Of a few answers that are all too sure by 6 points, some bins come out the other way."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        said = rng.uniform(0.56, 1, 100)
        probabilities = np.stack([said, 1 - said], 1).astype(np.float32)
        calibration = measure_calibration((rng.random(100) >= said - 0.06).astype(np.int64), probabilities)
        assert calibration.over_and_under is None or calibration.ece <= calibration.ece_by_chance[1]


@pytest.mark.parametrize("part", ["over all classes", "most confident mistakes", "least confident correct predictions"])
def test_the_parts_are_there(part):
    assert part in text_of(["a", "b", "c"], {})
