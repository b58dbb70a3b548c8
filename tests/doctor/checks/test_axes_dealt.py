"""Axes that a network exchanges by `view` or `reshape`, which only deals the numbers out anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from asked import asked, digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.axes_dealt import AXES_DEALT


class Reading(nn.Module):
    """A convolution, and its map (N, 6, 8, 8), or rows of it (N, 64, 6), in another shape before the last layer."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read, self.maps, self.last = read, nn.Conv2d(1, 6, 3, padding=1), nn.Linear(384, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.read(self.maps(x)).flatten(1))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (lambda x: x.reshape(len(x), 8, 8, 6), True),
        (lambda x: x.permute(0, 2, 3, 1).reshape(len(x), 6, 8, 8), True),
        (lambda x: x.view(len(x), 64, 6), True),
        (lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), 2, 64, 3), True),
        (lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), 64, 2, 3).transpose(1, 2).reshape(len(x), 64, 6), True),
        (lambda x: x.permute(0, 2, 3, 1), False),
        (lambda x: x.view(len(x), 6, 64), False),
        (lambda x: x.view(len(x), 2, 3, 64), False),
        (lambda x: x.flatten(2).transpose(1, 2).reshape(len(x), 64, 2, 3).transpose(1, 2), False),
        (lambda x: x.mean(1, keepdim=True).reshape(len(x), 8, 8, 1).expand(-1, -1, -1, 6), False),
    ],
)
def test_axes_are_exchanged_by_permute(read: Callable[[Tensor], Tensor], wrong: bool) -> None:
    found = asked(AXES_DEALT, Reading(read), digits())
    assert [one.code for one in found] == ["data.scrambled"] * wrong


@pytest.mark.parametrize("dealt", [True, False])
def test_classes_of_a_mask_come_to_the_front_by_permute(dealt: bool) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        scores = model(batch[0])
        marked = nn.functional.one_hot(batch[1], 3)
        wanted = (marked.view(scores.shape) if dealt else marked.permute(0, 3, 1, 2)).float()
        loss = nn.functional.binary_cross_entropy_with_logits(scores, wanted)
        loss.backward()
        optimizer.step()
        return loss.detach()

    images = torch.rand(64, 1, 6, 8)
    batches = DataLoader(TensorDataset(images, (3 * images[:, 0]).long().clamp(max=2)), 16)
    found = asked(AXES_DEALT, nn.Conv2d(1, 3, 3, padding=1), batches, step=step)
    assert [one.code for one in found] == ["data.scrambled"] * dealt
