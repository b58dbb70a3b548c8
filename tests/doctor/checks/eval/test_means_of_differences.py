"""Errors whose differences cancel."""

from __future__ import annotations

import ast

import pytest

from striate.doctor.checks.eval.means_of_differences import means_of_differences
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("mae = (pred - true).mean(dim=0).abs()", True),
        ("val_mae = abs(np.mean(pred - true))", True),
        ("mae = torch.abs(torch.mean(pred - true)).item()", True),
        ("error = pred - true; mae = error.mean().abs().item()", False),  # the same line
        ("error = pred - true\nmae = error.mean().abs().item()", True),
        ("def mae(a, b):\n    return float((a - b).mean().abs())", True),
        ("scores = {'mae': (a - b).mean().abs()}", True),
        ("log(mae_x=(a - b).mean().abs())", True),
        ("rmse = ((a - b).mean() ** 2) ** 0.5", True),
        ("mse = (a - b).mean().pow(2)", True),
        ("mse = torch.square(torch.mean(a - b))", True),
        ("mae = (pred - true).abs().mean(dim=0)", False),
        ("mae = np.mean(np.abs(pred - true))", False),
        ("mae = (members - true).mean(dim=0).abs().mean()", False),  # of the mean of several networks
        ("bias = (pred - true).mean().abs()", False),
        ("rmse = ((a - b) ** 2).mean().sqrt()", False),
        ("mse = (a - b).pow(2).mean()", False),
        ("mae = abs(np.mean(np.abs(a - b)))", False),
        ("mae = (a - b).abs().mean().abs()", False),
        ("error = (a - b).abs()\nmae = error.mean().abs()", False),
    ],
)
def test_the_mean_is_taken_last(line: str, found: bool) -> None:
    source = ScriptSource({"t.py": ast.parse(line)}, {}, ("t.py", 0, 0), 5)
    assert bool(list(means_of_differences(source))) is found
