"""Retrieval as a LightningModule, and a denoiser that draws its own batches: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

import pytest
from asked import digits, perceptron
from test_met_in_vision_scripts import read

from striate.doctor.checks.eval.best import WORST_KEPT


@pytest.mark.parametrize(
    ("logged", "mode", "wrong"),
    [("recall", "min", True), ("recall", "max", False), ("1 - recall", "min", False), ("distance", "min", False)],
)
def test_what_is_logged_tells_which_way_a_monitored_value_is_better(logged: str, mode: str, wrong: bool) -> None:
    text = f"""
    class Module:
        def on_validation_epoch_end(self):
            self.log("val_r1", {logged})
    keeper = ModelCheckpoint(monitor="val_r1", mode={mode!r})
    for x, y in loader:
        pass
    """
    said = read(text, WORST_KEPT, perceptron(), digits())
    assert [one.code for one in said] == ["eval.worst-kept"] * wrong
