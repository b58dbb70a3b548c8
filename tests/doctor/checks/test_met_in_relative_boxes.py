"""Boxes by center and size, two points, and numbers beside them in mirrored images: faults that were met in scripts,
and their healthy twins."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from test_met_in_second_heads import asked_or_silent
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND

SIZE = 16


class Mirrored(Dataset[Any]):
    """Images of a bright box (left, top, right, bottom), and a target that is made of it and mirrored in one way."""

    def __init__(self, kind: str, moves: str, flips: bool) -> None:
        self.kind, self.moves, self.flips = kind, moves, flips

    def __len__(self) -> int:
        return 120

    def __getitem__(self, number: int) -> tuple[Tensor, Any]:
        drawn = random.Random(number)
        width, height = (8, 8) if self.kind == "of one size" else (drawn.randint(4, 8), drawn.randint(4, 8))
        left, top = drawn.randint(0, SIZE - width), drawn.randint(0, SIZE - height)
        image = 0.1 * torch.randn(1, SIZE, SIZE, generator=torch.Generator().manual_seed(number))
        image[:, top : top + height, left : left + width] += 1
        corners = torch.tensor([left, top, left + width, top + height]) / SIZE
        if self.flips and torch.rand(()) < 0.5:
            image = image.flip(-1)
            if self.moves in ("both edges", "other axis"):
                columns = [0, 2] if self.moves == "both edges" else [1, 3]
                corners[columns] = 1 - corners[columns[::-1]]
            elif self.moves == "no exchange":
                corners[[0, 2]] = 1 - corners[[0, 2]]
        low, high = corners[:2], corners[2:]
        if self.kind == "two points" and drawn.random() < 0.5:  # of an arrow to the left
            return image, corners[[2, 1, 0, 3]]
        if self.kind == "shares":
            return image, torch.rand(4, generator=torch.Generator().manual_seed(number)).softmax(0)
        if self.kind == "with weights":
            return image, {"box_weights": torch.tensor([1.0, 0.5]), "boxes": corners}
        by_center = self.kind in ("centers", "of one size")
        return image, torch.cat([(low + high) / 2, high - low]) if by_center else corners


@pytest.mark.parametrize(
    ("kind", "moves", "measured"),
    [
        ("of one size", "both edges", ""),
        ("corners", "both edges", ""),
        ("corners", "no exchange", "right edge"),
        ("two points", "no exchange", ""),
        ("shares", "", ""),
        ("with weights", "both edges", ""),
        ("with weights", "", "box or points"),
        ("centers", "both edges", ""),
        ("centers", "other axis", "ridge regression"),
    ],
)
def test_targets_of_mirrored_images(kind: str, moves: str, measured: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        wanted = batch[1]["boxes"] if isinstance(batch[1], dict) else batch[1]
        loss = (model(batch[0]) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    train, val = (DataLoader(Mirrored(kind, moves, flips), 24) for flips in (True, False))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = asked_or_silent(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step)
    assert [one.code for one in said] == ["data.targets-left-behind"] * bool(measured)
    assert all(measured in one.measured for one in said)


def test_rows_of_all_boxes_of_a_batch_belong_to_no_image_by_their_number() -> None:
    def collated(batch: list[Any]) -> tuple[Tensor, Tensor]:
        images, boxes = (torch.stack(part) for part in zip(*batch, strict=True))
        return images, torch.cat([boxes, boxes[:1]])

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = (model(batch[0]) - batch[1][:-1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    train, val = (DataLoader(Mirrored("corners", "both edges", f), 24, collate_fn=collated) for f in (True, False))
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert not asked_or_silent(LEFT_BEHIND, model, train, val=val, optimizer=optimizer, step=step)
