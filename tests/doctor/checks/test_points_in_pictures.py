"""Points in pictures: maps on another grid, sides that stay when the picture is mirrored, rows for columns."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked
from torch import nn
from torch.utils.data import DataLoader, Dataset

from remedies_tried import try_remedy
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.eval.predicted import WRONG_AXIS
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding

SIZE, STRIDE = 32, 2


class Faces(Dataset[Any]):
    """Two equal eyes above a large mouth, (x, y), and maps of a half of the picture's sides."""

    def __init__(self, flips: bool, swaps: bool = True, stride: int = STRIDE, alike: bool = True) -> None:
        self.flips, self.swaps, self.stride, self.alike = flips, swaps, stride, alike
        middles = 12 + 8 * torch.rand(160, 2, generator=torch.Generator().manual_seed(0))
        self.points = middles[:, None] + torch.tensor([[-5.0, -4.0], [5.0, -4.0], [0.0, 5.0]])

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        points = self.points[number]
        grid = torch.arange(SIZE).float()
        heights = [1.0, 1.0 if self.alike else -1.0, 0.5]
        picture = sum(high * blob(grid, x, y, 1.5) for (x, y), high in zip(points.tolist(), heights, strict=True))
        if self.flips and torch.rand(()) < 0.5:
            picture, points = picture.flip(-1), torch.stack([SIZE - 1 - points[:, 0], points[:, 1]], 1)
            points = points[[1, 0, 2]] if self.swaps else points
        cells = torch.arange(SIZE // STRIDE).float()
        maps = torch.stack([blob(cells, x / self.stride, y / self.stride, 1.0) for x, y in points.tolist()])
        return picture[None], maps, points


def blob(grid: torch.Tensor, x: float, y: float, width: float) -> torch.Tensor:
    return torch.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * width**2))


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))


def told(check: Any, data: Faces) -> list[Finding]:
    torch.manual_seed(0)
    found: list[Finding] = []
    with suppress(NoEvidence):
        found = asked(
            check, network(), DataLoader(data, 32, shuffle=True), val=DataLoader(Faces(flips=False), 32),
            loss=nn.MSELoss(), task="regress", step=stepped,
        )  # fmt: skip
    return found


def stepped(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> torch.Tensor:
    value = loss(model(batch[0]), batch[1])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("data", "right"),
    [
        (Faces(flips=True, swaps=False), False),
        (Faces(flips=True), True),
        (Faces(flips=False), True),
        (Faces(flips=True, swaps=False, alike=False), True),  # head and tail keep their names
    ],
)
def test_the_left_of_two_that_look_alike_stays_the_left_one(data: Faces, right: bool) -> None:
    found = told(LEFT_BEHIND, data)
    assert ["keep their numbers" in finding.measured for finding in found] == [True] * (not right)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("stride", [1, STRIDE])
def test_maps_are_drawn_in_cells(stride: int) -> None:
    found = [f for f in told(TARGET_SCALE, Faces(flips=False, stride=stride)) if "maps" in f.measured]
    assert [finding.code for finding in found] == ["data.target-scale"] * (stride == 1)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("torch.stack([index // 16, index % 16], -1)", False),
        ("torch.stack([torch.div(index, 16, rounding_mode='floor'), index % 16], -1)", False),
        ("torch.stack([index % 16, index // 16], -1)", True),
        ("torch.stack([index // 16, index % 16], -1).flip(-1)", True),
        ("torch.stack([index, index % 16], -1)", True),
    ],
)
def test_the_column_of_a_peak_comes_before_its_row(line: str, right: bool) -> None:
    text = f"def decode(maps):\n    index = maps.flatten(2).argmax(-1)\n    return {line}\n"
    source = ScriptSource({"train.py": ast.parse(text)}, {}, ("train.py", 9, 9), 5)
    loader = DataLoader(Faces(flips=False), 32)
    setup = make_setup(network(), loader, loader, loss=nn.MSELoss(), task="regress", step=stepped, source=source)
    with state_preserved(setup):
        found = list(WRONG_AXIS.run(Evidence(setup, Clock(10.0))))
    assert [finding.code for finding in found] == ["eval.wrong-axis"] * (not right)
    for finding in found:
        try_remedy(finding.remedy)
