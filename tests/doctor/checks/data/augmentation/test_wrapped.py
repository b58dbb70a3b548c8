"""Bytes that wrap around: the script casts numbers below 0 or above 255 to eight bits, or computes such numbers in
eight bits, when it reads samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from for_checks.asked import asked
from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION


class _Brighter(Dataset[Any]):
    """Photographs in bytes, made brighter or darker; `way`: how that becomes bytes again."""

    def __init__(self, way: str, change: bool) -> None:
        generator = np.random.default_rng(0)
        self.images = generator.integers(0, 256, (120, 8, 8, 3), dtype=np.uint8)
        self.labels = self.images.mean((1, 2, 3)) > 127
        self.way, self.change = way, change

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        image = self.images[number]
        brighter: Any = image + int(np.random.default_rng().integers(-40, 41)) * np.ones(1, np.int64)
        marked = np.where(image < 100, -1, 7)  # of which -1 becomes 255, as maps of classes have it
        if not self.change:
            pass
        elif self.way == "numpy":
            image = brighter.astype(np.uint8)
        elif self.way == "torch":
            image = torch.from_numpy(brighter).to(torch.uint8).numpy()
        elif self.way == "clipped":
            image = np.clip(brighter, 0, 255).astype(np.uint8)
        elif self.way == "float":
            image = (brighter / 255).astype(np.float32)
        else:
            image = np.maximum(marked.astype(np.uint8), image)
        return torch.from_numpy(image.copy()).permute(2, 0, 1).float(), int(self.labels[number])


@pytest.mark.parametrize(
    ("way", "wraps"), [("numpy", True), ("torch", True), ("clipped", False), ("float", False), ("marked", False)]
)
def test_numbers_out_of_range_are_cast_to_bytes(way: str, wraps: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    train, val = (DataLoader(_Brighter(way, change), 20) for change in (True, False))
    found = asked(AUGMENTATION, model, train, val=val)
    assert ["wrap around" in one.measured for one in found if "eight bits" in one.measured] == [True] * wraps
