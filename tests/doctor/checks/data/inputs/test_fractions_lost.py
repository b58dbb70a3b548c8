"""Fractions that are stored in an array of whole numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import read
from striate.doctor.checks.data.inputs.fractions_lost import FRACTIONS_LOST

SCRIPT = """
class Faces(Dataset):
    def __init__(self, paths, mean=0.4, std=0.2):
        self.images = {made}
        for i, path in enumerate(paths):
            pixels = np.asarray(Image.open(path), dtype=np.float32)
            row = (pixels / 255 - mean) / std
            self.images[i] = {stored}

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index].astype(np.float32))

for x, y in loader:
    step(model, x, y)
"""
BYTES = "np.zeros((len(paths), 8, 8), dtype=np.uint8)"


@pytest.mark.parametrize(
    ("made", "stored", "remedy"),
    [
        (BYTES, "(pixels / 255 - mean) / std", "np.zeros((len(paths), 8, 8), dtype=np.float32)"),
        (BYTES, "row", "np.zeros((len(paths), 8, 8), dtype=np.float32)"),
        ("np.empty((len(paths), 8, 8), 'int64')", "pixels / 255 - 0.5", "np.empty((len(paths), 8, 8), np.float32)"),
        ("torch.zeros(9, 8, 8, dtype=torch.long)", "pixels / 255", "torch.zeros(9, 8, 8, dtype=torch.float32)"),
        (BYTES, "pixels", None),
        (BYTES, "255 * (pixels / pixels.max())", None),  # in whole numbers again
        (BYTES, "pixels // 2", None),
        ("np.zeros((len(paths), 8, 8))", "row", None),
        ("np.zeros((len(paths), 8, 8), np.float32)", "row", None),
    ],
)
def test_quotients_in_an_array_of_whole_numbers(made: str, stored: str, remedy: str | None) -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randint(0, 256, (48, 64)).float(), torch.arange(48) % 4), 8)
    code = SCRIPT.format(made=made, stored=stored)
    said = read(code, FRACTIONS_LOST, nn.Linear(64, 4), loader)
    assert len(said) == (remedy is not None)
    assert all(f"`self.images = {remedy}`" in one.remedy for one in said)
    fractions = DataLoader(TensorDataset(torch.randn(48, 64), torch.arange(48) % 4), 8)
    assert not read(code, FRACTIONS_LOST, nn.Linear(64, 4), fractions)
