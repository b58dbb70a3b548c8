"""Denoisers that add what they compute to their input, drawings that are equal by chance, boxes of a dictionary: faults
that were met, and healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_met_in_second_heads import asked_or_silent
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.repeated_samples import LEAK


class Denoiser(nn.Module):
    """`inside`: whether it adds the noise itself, in training."""

    def __init__(self, inside: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.inside = nn.Conv2d(1, 1, 3, padding=1), inside

    def forward(self, x: Tensor) -> Tensor:
        if self.inside and self.training:
            x = x + 0.3 * torch.randn_like(x)
        return x - self.net(x)


@pytest.mark.parametrize("kind", ["one color", "two colors", "copied"])
def test_drawings_in_one_color_that_are_drawn_twice_are_noted(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    glyphs = (torch.rand(150, 1, 8, 8, generator=generator) > 0.5).float()
    if kind == "two colors":
        glyphs[:, :, 0, 0] = 0.5
    train, val = (glyphs[torch.randint(150, (count,), generator=generator)] for count in (60, 60))
    if kind == "copied":  # training itself has no drawing twice
        train, val = glyphs[:40], glyphs[30:90]
    model = Denoiser()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 0.001), "loss": nn.MSELoss()}
    options["val"] = DataLoader(TensorDataset(val, val), 16)
    said = asked_or_silent(LEAK, model, DataLoader(TensorDataset(train, train), 16), **options)
    assert [one.severity for one in said] == ["note" if kind == "one color" else "error"]
