"""Points in pixels of the original image beside a resized one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import read
from striate.doctor.checks.data.moved.targets_left_behind import LEFT_BEHIND

SCRIPT = """
class Faces(Dataset):
    def __getitem__(self, index):
        image = {image}
        width, height = image.size
        landmarks = self.landmarks[index]
        image = image.resize((SIZE, SIZE), Image.BILINEAR)
        return image, {points}

for x, y in loader:
    step(model, x, y)
"""
OPENED, DRAWN = "Image.open(self.paths[index])", 'Image.new("L", (4 * SIZE, 4 * SIZE))'


@pytest.mark.parametrize(
    ("image", "points", "scale", "found"),
    [
        (OPENED, "landmarks", 96, "larger than the side of the image"),
        (OPENED, "(landmarks - SIZE / 2) / (SIZE / 4)", 4, "divided by the new size alone"),
        (OPENED, "landmarks", 32, None),  # in pixels of the resized image
        (OPENED, "landmarks * SIZE / width", 32, None),
        (OPENED, "landmarks * (SIZE / width)", 96, None),  # scaled, whatever comes of it
        (OPENED, "(landmarks - 48) / 48", 1, None),  # shares of the original side
        (OPENED, "landmarks / width", 1, None),
        (DRAWN, "landmarks / SIZE", 1, None),  # drawn larger, to be smooth
    ],
)
def test_points_are_scaled_with_their_image(image: str, points: str, scale: float, found: str | None) -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.rand(48, 1, 32, 32), scale * torch.rand(48, 10)), 8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    said = read(SCRIPT.format(image=image, points=points), LEFT_BEHIND, model, loader, loss=nn.MSELoss())
    assert len(said) == (found is not None)
    assert all(found in one.measured for one in said if found)
