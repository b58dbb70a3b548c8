"""Weights in checkpoints that were taken for copies left behind."""

from __future__ import annotations

import ast
import copy
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from striate.doctor.checks.model.evaluates_untrained import _are_chosen, _are_kept_anew
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize("as_state", [True, False])
@pytest.mark.parametrize("test", ["score > best", ""])
def test_weights_in_a_checkpoint_are_the_best_so_far(test: str, as_state: bool) -> None:
    model = nn.Linear(2, 2)
    kept = "checkpoint = {'model': copied(model), 'epoch': 0}"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    copied = copy.deepcopy(model.state_dict())
    checkpoint = {"model": copied if as_state else dict(copied), "epoch": 0}
    source = ScriptSource(
        {"train.py": ast.parse(text + "    train(x, y)\n")}, {"checkpoint": checkpoint}, ("train.py", 1, 4), 5
    )
    setup: Any = SimpleNamespace(source=source, model=model)
    assert (_are_kept_anew(source) if as_state else _are_chosen(setup)) is bool(test)
