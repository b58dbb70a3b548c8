"""Decibels of images between 0 and 1 with the peak of bytes, and their twins."""

from __future__ import annotations

import ast
import textwrap

import pytest
import torch
from asked import asked
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.setup.script_source import ScriptSource

ERROR = "error = F.mse_loss(model(x), y)"


@pytest.mark.parametrize(
    ("formula", "largest", "wrong"),
    [
        ("10 * torch.log10(255 ** 2 / error)", 1, True),
        ("20 * math.log10(255.0) - 10 * math.log10(error)", 1, True),
        ("-10 * torch.log10(error / 65025)", 1, True),
        ("psnr(error)", 1, True),
        ("psnr(error, 255.0, 3.0)", 1, False),
        ("10 * torch.log10(1.0 / error)", 1, False),
        ("10 * torch.log10(255 ** 2 / error)", 255, False),
        ("10 * torch.log10(255 ** 2 / F.mse_loss(255 * model(x), 255 * y))", 1, False),
    ],
)
def test_the_peak_is_that_of_the_images(formula: str, largest: float, wrong: bool) -> None:
    text = f"""
    def psnr(error, peak=255.0, *more):
        return 10 * torch.log10(peak ** 2 / error)

    def evaluate(model, batches):
        for x, y in batches:
            {ERROR}
            print({formula})

    for x, y in loader:
        step(x, y)
    """
    if "psnr" not in formula:
        text = text[text.index("    def evaluate") :]
    tree = ast.parse(textwrap.dedent(text))
    lines = len(text.splitlines())
    source = ScriptSource({"s.py": tree}, {}, ("s.py", lines - 2, lines - 1), 5)
    images = largest * torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[0, 0, 0, 0] = largest
    loader = DataLoader(TensorDataset(images, images), 16)
    network = nn.Conv2d(1, 1, 3, padding=1)
    options = {"loss": functional.mse_loss, "val": loader, "source": source}
    found = asked(WRONG_COUNT, network, loader, optimizer=lambda p: torch.optim.Adam(p), **options)
    assert ["peak of bytes" in one.measured for one in found] == [True] * wrong
