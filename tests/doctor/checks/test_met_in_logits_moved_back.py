"""Outputs that the step mirrors back before the loss lie where targets lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.loss.sign.sign import SIGN


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("check", [LEFT_BEHIND, STEP_LABELS, SIGN], ids=lambda check: check.codes[0])
def test_logits_that_are_mirrored_back(check: Any, back: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 1, 8, 8, generator=generator)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 32)
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 3, padding=1)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        images, masks = batch
        moved = bool(torch.rand(()) < 0.5)
        logits = model(images.flip(-1) if moved else images)
        loss = functional.cross_entropy(logits.flip(-1) if moved and back else logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    said = asked(check, model, loader, optimizer=optimizer, step=step, task="segment")
    assert bool(said) is (not back and check is LEFT_BEHIND)
