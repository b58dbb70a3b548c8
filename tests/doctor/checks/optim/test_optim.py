"""Checks of `optim.`."""

from __future__ import annotations

import pytest
import torch

from for_checks.asked import digits, perceptron
from striate.doctor.checks.optim import lr_too_high
from striate.doctor.checks.optim.lr_too_high import _worse_later
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("later", "told"), [((0.5, 0.9), True), ((0.5, 0.7), False), ((0.85, 0.99), False)])
def test_adams_rate_may_fall_behind_later(
    later: tuple[float, float], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that learns little in the trial, and after four times the steps so much as it is and with a tenth."""
    model = perceptron()
    setup = make_setup(model, digits(), None, optimizer=torch.optim.Adam(model.parameters(), lr=0.5))
    evidence, progress = Evidence(setup, Clock(60.0)), [Progress(1.0, 1.0, 1 - share, 640) for share in later]
    monkeypatch.setattr(lr_too_high, "progress_of_both_after_more_steps", lambda *_: progress)
    assert (_worse_later(evidence, Progress(1.0, 1.0, 0.9, 160)) is not None) is told
