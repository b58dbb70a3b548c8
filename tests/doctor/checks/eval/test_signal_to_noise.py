"""Decibels, `10 * log10(peak ** 2 / error)`, with the peak of bytes for images that have none above 1, or with 20 for
squared errors."""

from __future__ import annotations

import ast
import math

import pytest
import torch

from striate.doctor.checks.eval.signal_to_noise import doubled
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(
    ("formula", "wrong"),
    [
        ("20 * torch.log10(1 / mse)", True),
        ("20 * math.log10(mse)", True),
        ("20 * torch.log10(peak / F.mse_loss(x, y))", True),
        ("20 * torch.log10(1 / torch.mean((x - y) ** 2))", True),
        ("20 * torch.log10(x ** 2)", False),
        ("10 * torch.log10(1 / mse)", False),
        ("20 * torch.log10(peak) - 10 * torch.log10(mse)", False),
        ("20 * torch.log10(1 / mse.sqrt())", False),
        ("20 * torch.log10(1 / rmse)", False),
        ("psnr(mse)", True),
        ("psnr(rmse)", False),
    ],
)
def test_decibels_of_squares_rise_by_ten(formula: str, wrong: bool) -> None:
    text = f"""
def psnr(error):
    return 20 * torch.log10(1 / error)

for x, y in loader:
    mse = F.mse_loss(model(x), y)
    rmse = mse.sqrt()
    print({formula})
"""
    text = text if "psnr" in formula else text[text.index("for") :]
    source = ScriptSource({"s.py": ast.parse(text)}, {"torch": torch, "math": math}, ("s.py", 2, 3), 5)
    assert len(list(doubled(source))) == wrong
