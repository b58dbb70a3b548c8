"""What a script's own evaluation gives for the trial's network, beside the predictions that it is made of."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import digits
from striate.doctor.checks.eval.script_evaluation import named_numbers, validation_predictions
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ('f"epoch {n}: loss {lost:.4f}, mean IoU {score:.4f}"', "mean IoU"),
        ('f"IoU: {score:.4f}"', "IoU"),
        ('f"{part} IoU {score:.4f}"', "n IoU"),  # of what is not known
        ('f"{score:.4f}"', ""),
    ],
)
def test_a_score_is_named_where_it_is_printed(printed: str, name: str) -> None:
    tree = ast.parse(f"score = evaluate(net, data)\nprint({printed})\nscore = other(net)\nprint(f'Dice {{score}}')\n")
    site = next(node for node in ast.walk(tree) if isinstance(node, ast.Call))
    source = ScriptSource({"script.py": tree}, {}, ("script.py", 1, 2), None)
    assert named_numbers(source, site, 0.5, "") == [("score", 0.5), (name, 0.5)]


@pytest.mark.parametrize(("outputs", "known"), [(9, False), (10, True)])
def test_grades_of_which_each_asks_for_a_threshold_are_no_classes(outputs: int, known: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(
            net(batch[0]), (batch[1][:, None] > torch.arange(outputs)).float()
        )
        value.backward()
        optimizer.step()
        return value.detach()

    setup = make_setup(model, digits(), digits(64), optimizer=torch.optim.Adam(model.parameters()), step=step)
    assert (validation_predictions(Evidence(setup, Clock(60.0))) is not None) is known
