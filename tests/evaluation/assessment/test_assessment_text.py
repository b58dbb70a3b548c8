"""The text stays within 80 columns and on its lines, whatever the names are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from answers_made import calibrated, data_of, evaluated
from rich.cells import cell_len

from striate.evaluation.assessment.assess import assess_split
from striate.evaluation.assessment.calibration import fit_temperature

NAMES = [
    "short",
    "a name that goes on and on and on and on without an end in sight",
    "名前" * 20,
    "two\nlines \x1b[31m",
]


def text_of(names, columns, scale=1.0):
    truth, probabilities = calibrated(400, len(names), seed=1, sharpness=2.5 * scale)
    evaluation = evaluated(truth, probabilities, classes=tuple(names))
    gap = {"sentence": "Training 99.00 %, validation 90.00 %: 9.00 points better on what it learned from."}
    temperature = fit_temperature(truth, probabilities)
    figures = assess_split(evaluation, data_of(400, columns=columns), temperature)
    metrics = {**evaluation.metrics, "accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}
    return str(replace(evaluation, metrics=metrics, figures=figures, temperature=temperature, gap=gap))


@pytest.mark.parametrize("names", [NAMES, NAMES[1:3]])
def test_no_line_is_longer_than_80_columns(names):
    column = tuple(np.where(np.arange(400) % 2, NAMES[1], NAMES[2]))
    for line in text_of(names, {NAMES[1]: column}).split("\n"):
        assert cell_len(line) <= 80, line
        assert line.isprintable()


def test_the_verdict_of_a_network_that_is_too_sure():
    text = text_of(["a", "b", "c"], {})
    assert "the network is too sure" in text
    assert "fitted on val (n = 400)" in text
    assert "9.00 points better on what it learned from." in text
    assert "not sure enough" in text_of(["a", "b", "c"], {}, scale=0.15)


@pytest.mark.parametrize("part", ["over all classes", "most confident mistakes", "least sure hits"])
def test_the_parts_are_there(part):
    assert part in text_of(["a", "b", "c"], {})
