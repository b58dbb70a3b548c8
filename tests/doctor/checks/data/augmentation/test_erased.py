"""Samples of which augmentation leaves next to nothing, beside what their data set holds of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from for_checks.asked import digits, perceptron, stepped
from striate.doctor.checks.data.augmentation.erased import erased_by_step
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("kept", "anew", "wrong"), [(2, True, True), (6, True, False), (2, False, False)])
def test_a_step_masks_less_than_nearly_all(kept: int, anew: bool, wrong: bool) -> None:
    """What lies at the same places in each step is no augmentation."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        top, left = (torch.randint(0, 9 - kept, (2,)) if anew else torch.tensor([0, 6])).tolist()
        shown = torch.zeros_like(batch[0])
        shown[..., top : top + kept, left : left + kept] = batch[0][..., top : top + kept, left : left + kept]
        return stepped(functional.cross_entropy(model(shown), batch[1]), optimizer)

    model = perceptron()
    setup = make_setup(model, digits(most=256), optimizer=torch.optim.SGD(model.parameters(), 1e-3), step=step)
    said = erased_by_step(Evidence(setup, Clock(20.0)))
    assert (said is not None) == wrong
