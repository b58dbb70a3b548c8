"""Differences between inputs of validation and training in scale, smoothness and tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.shift.input_statistics import smoothness_apart


class Drawn(Dataset[Any]):
    """Smooth images (1, 16, 16), turned, in another light and with noise."""

    def __init__(self, images: Tensor, noise: float) -> None:
        self.images, self.noise = images, noise

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        light, image = float(0.8 + 0.4 * torch.rand(())), self.images[number].rot90(int(torch.randint(4, ())), (1, 2))
        return light * image + self.noise * torch.randn(image.shape), 0


@pytest.mark.parametrize(("noise", "apart"), [(0.3, False), (0.0, True)])
def test_validation_without_the_noise_of_augmentation_is_not_filtered_otherwise(noise: float, apart: bool) -> None:
    torch.manual_seed(0)
    images = nn.functional.interpolate(torch.randn(120, 1, 6, 6), size=(16, 16), mode="bilinear")
    train = Drawn(images[:60], noise)
    known = torch.stack([train[number][0] for number in range(60)])
    val = images[60:] if noise else nn.functional.avg_pool2d(images[60:], 5, 1, 2)
    evidence: Any = SimpleNamespace(inputs_vary=True, setup=SimpleNamespace(train=DataLoader(train, 20)))
    assert bool(smoothness_apart(evidence, known, val)) is apart
