"""Sums, differences and products of bytes, whose results are bytes and wrap around."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from for_checks.asked import asked
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION


class _Centered(Dataset[Any]):
    """Photographs in bytes less their mean, or brighter; `way`: how that is computed."""

    def __init__(self, way: str) -> None:
        generator = np.random.default_rng(0)
        self.images = generator.integers(0, 256, (120, 8, 8, 3), dtype=np.uint8)
        self.mean = self.images.mean((0, 1, 2)).astype(np.uint8)
        self.labels = self.images.mean((1, 2, 3)) > 127
        self.way = way

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image: Any = self.images[number]
        value = 20 + number % 20
        if self.way == "numpy":
            image = (image - self.mean) / 255.0
        elif self.way == "torch":
            image = torch.from_numpy(image) - torch.from_numpy(self.mean)
        elif self.way == "in place":
            image = image.copy()
            image += np.uint8(value)
        elif self.way == "float":
            image = image.astype(np.float32) - self.mean
        elif self.way == "chosen":
            image = np.where(image > 255 - value, 255, image + np.uint8(value))
        elif self.way == "marked":
            image = (image // 64) - np.uint8(1)  # of which 0 becomes 255, as maps of classes have it
        elif self.way == "inverted":
            image = 255 - image
        return torch.as_tensor(image).permute(2, 0, 1).float(), int(self.labels[number])


@pytest.mark.parametrize(
    ("way", "wraps"),
    [
        ("numpy", True),
        ("torch", True),
        ("in place", True),
        ("float", False),
        ("chosen", False),
        ("marked", False),
        ("inverted", False),
    ],
)
def test_sums_of_bytes_are_bytes(way: str, wraps: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    found = asked(AUGMENTATION, model, DataLoader(_Centered(way), 20), val=DataLoader(_Centered("float"), 20))
    assert ["wrap around" in one.measured for one in found if "eight bits" in one.measured] == [True] * wraps
