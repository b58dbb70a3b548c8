"""Rollouts that clipped policies learn from, windows in variables, gradients divided where they lie: faults that were
met in scripts, and their healthy twins."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import nn

from striate.doctor.diagnose import examine_code
from striate.doctor.setup.script_source import ScriptSource


def of_training(text: str, names: dict[str, Any]) -> list[str]:
    """What is found of a script of whose loop no step is made."""
    source = ScriptSource({"train.py": ast.parse(text)}, names, ("train.py", 1, len(text.split("\n"))), 1)
    return [finding.code for finding in examine_code(source, nn.Linear(2, 1), "").findings]


ADDED_UP = """
for step, (x, y) in enumerate(loader, start=1):
    loss = criterion(model(x), y)
    loss.backward()
    if step % accumulate == 0:
        {divided}
        optimizer.step()
        optimizer.zero_grad()
"""


@pytest.mark.parametrize("divided", ["p.grad.div_(seen)", "p.grad /= seen", "print(seen)"])
def test_gradients_that_are_divided_where_they_lie(divided: str) -> None:
    model = nn.Linear(2, 1)
    names = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "model": model, "accumulate": 4}
    assert of_training(ADDED_UP.format(divided=divided), names) == ["optim.accumulation"] * ("print" in divided)
