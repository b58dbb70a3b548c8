"""What a training shows on a terminal."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console

from striate.tasks.metric import Metric
from striate.training.events import EpochDone, EpochRow, StepDone
from striate.training.progress import describe_row, progress_reader

ACCURACY = Metric("accuracy", "accuracy", "share")
MAP = Metric("map", "mAP", "share")
RMSE = Metric("rmse", "RMSE")


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_cuts_off_neither_the_bar_nor_the_metrics(width):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=width, color_system=None)
    row = EpochRow(2, 20, 0.1, {"loss": 0.86}, {"loss": 0.9, "accuracy": 7 / 15}, 0.01, 135)
    with progress_reader(console, [ACCURACY], validated=15) as read:
        read(StepDone(1, 20, 1, torch.tensor(0.8), 0.1, 15))
        read(EpochDone(row, 3, 3, best=True, finished=True))  # its steps came too fast for the bar to be redrawn
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert "…" not in output.getvalue()
    assert any("epoch 3/3" in line and "━" * 16 in line and "100 %" in line for line in lines)
    said = " ".join(output.getvalue().split())  # the terminal may break lines between words
    assert "loss 0.8600 val accuracy 46.7 % (25–70 %, n = 15) 13,500 samples/s" in said


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [(MAP, 0.0203, "val mAP 2.0 %"), (RMSE, 3.25, "val RMSE 3.25"), (None, 1.5, "val loss")],
)
def test_a_row_has_the_name_and_the_unit_of_the_metric(metric, value, said):
    val = {"loss": 1.0} if metric is None else {"loss": 1.0, metric.key: value}
    row = EpochRow(1, 1, 0.1, {"loss": 1.0}, val, 2.0, 100)
    assert said in describe_row(row, [] if metric is None else [metric])
