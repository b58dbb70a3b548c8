"""Masks that are resized by interpolation, so that borders get the numbers of other classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import read
from striate.doctor.checks.data.moved.targets_left_behind import LEFT_BEHIND

SCRIPT = """
def prepare(images, masks):
    return F.interpolate(images, size=32, mode="bilinear"), {line}

for x, y in loader:
    step(model, x, y)
"""
BY_TORCH = 'F.interpolate(masks[:, None], size=32, mode="{}")[:, 0].long()'


def scenes(mode: str) -> DataLoader[Any]:
    """Squares of three classes, enlarged in this way."""
    torch.manual_seed(0)
    masks = torch.zeros(48, 24, 24)
    for number, mask in enumerate(masks):
        for kind in (1, 2, 3):
            top, left = torch.randint(0, 17, (2,)).tolist()
            mask[top : top + 6, left : left + 6] = (kind + number) % 3 + 1
    images = functional.one_hot(masks.long(), 4).movedim(-1, 1).float() + 0.3 * torch.randn(48, 4, 24, 24)
    options: dict[str, Any] = {"size": 32, "mode": mode}
    resized: Tensor = functional.interpolate(masks[:, None], **options)[:, 0].long()
    return DataLoader(TensorDataset(functional.interpolate(images, size=32, mode="bilinear"), resized), 8)


@pytest.mark.parametrize(
    ("mode", "line", "wrong"),
    [
        ("bilinear", BY_TORCH.format("bilinear"), True),
        ("bilinear", "masks.resize((32, 32))", True),
        ("nearest", BY_TORCH.format("nearest"), False),
        ("nearest", "masks.resize((32, 32))", False),  # of palette images Pillow takes the nearest pixel
        ("bilinear", "masks.resize((32, 32), Image.NEAREST)", False),
    ],
)
def test_numbers_of_classes_are_not_mixed(mode: str, line: str, wrong: bool) -> None:
    model = nn.Conv2d(4, 4, 1)
    text = SCRIPT.format(line=line)
    found = read(text, LEFT_BEHIND, model, scenes(mode), loss=nn.CrossEntropyLoss(), task="segment")
    assert ["between two classes have a number between theirs" in one.measured for one in found] == [True] * wrong
