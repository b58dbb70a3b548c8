"""The inputs of the network in training steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import stepped
from for_checks.pictures import Clips
from striate.doctor.checks.data.augmentation.network_inputs import network_inputs
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


def clips() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(64, 5, 16), torch.arange(64) % 3), 16)


@pytest.mark.slow
@pytest.mark.parametrize("blends", [False, True])
def test_blends_of_clips_are_not_asked_for_the_label_of_one(blends: bool) -> None:
    """Though the step gives the loss the labels as they come, and then those of the other clips."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        (x, y), order = batch, torch.randperm(len(batch[0]))
        outputs = model(0.7 * x + 0.3 * x[order] if blends else x + 0.1 * torch.randn_like(x))
        loss = functional.cross_entropy(outputs, y)
        return stepped(0.7 * loss + 0.3 * functional.cross_entropy(outputs, y[order]), optimizer)

    model = Clips(mixing=False)
    setup = make_setup(model, clips(), optimizer=torch.optim.SGD(model.parameters(), 0.1), step=step)
    try:
        place = network_inputs(Evidence(setup, Clock(20.0))).place
    except NoEvidence:
        place = None
    assert place == (None if blends else "step")
