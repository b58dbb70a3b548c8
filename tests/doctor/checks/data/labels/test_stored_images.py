"""Stored images, before augmentation: do their labels belong to them?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.labels.stored_images import labels_fit_stored_images
from striate.doctor.evidence.clock import Clock


class Cropped(Dataset[Any]):
    """Gradients of two directions, of which next to nothing is shown: of the labeled image, or of another one."""

    def __init__(self, others: int, labels: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self.others, self.kinds = others, torch.arange(200) % 2
        ramp = torch.linspace(-1, 1, 8).expand(1, 8, 8)
        images = torch.stack([ramp if kind else ramp.mT for kind in self.kinds])
        levels = torch.rand(200, 1, 1, 1, generator=generator) * 4
        self.images = images + levels + 0.3 * torch.randn(images.shape, generator=generator)
        self.labels = self.kinds if not len(labels) else labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        image = self.images[(number + self.others) % len(self)]
        return image[:, 3:4, 3:4].expand(1, 8, 8) + 0.1 * torch.randn(1, 8, 8), self.labels[number]


@pytest.mark.parametrize(("others", "permuted", "fit"), [(0, False, True), (77, False, False), (0, True, False)])
def test_labels_that_go_with_images_as_they_are_held_are_not_random(others: int, permuted: bool, fit: bool) -> None:
    labels = torch.randperm(200, generator=torch.Generator().manual_seed(1)) % 2 if permuted else torch.empty(0)
    train = DataLoader(Cropped(others, labels), 50, shuffle=True)
    samples, clock = SimpleNamespace(x_path=(0,), y_path=(1,)), Clock(20)
    evidence: Any = SimpleNamespace(inputs_vary=True, setup=SimpleNamespace(train=train), samples=samples, clock=clock)
    assert labels_fit_stored_images(evidence) is fit
