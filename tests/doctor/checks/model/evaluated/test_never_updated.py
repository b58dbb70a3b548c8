"""Copies of the network that a script evaluates, but that no line of it changes."""

from __future__ import annotations

import ast

import pytest

from for_checks.scripts import source_of
from striate.doctor.checks.model.evaluated.never_updated import in_idle_function

BY_NAME = """
class Averaging:
    def begin_fit(self, learner):
        self.average = AveragedModel(learner.model)
    def after_epoch(self, learner):
        self.average.update_parameters(learner.model)
"""


def is_update(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "update_parameters"


@pytest.mark.parametrize("called", [True, False])
def test_a_callback_that_is_called_by_its_name_is_not_idle(called: bool) -> None:
    text = BY_NAME + "for epoch in range(9):\n    getattr(callback, 'after_epoch')(learner)\n" * called
    source = source_of(text)
    (update,) = (node for tree in source.trees.values() for node in ast.walk(tree) if is_update(node))
    assert in_idle_function(source, update) is not called


@pytest.mark.parametrize(
    ("more", "idle"),
    [
        ("", True),
        ("for x in loader:\n    update()\n", False),
        ("hook = update\n", False),
        ("from averages import update as follow\n", False),
        ("call('update')\n", False),
    ],
)
def test_a_function_that_nothing_names_is_idle(more: str, idle: bool) -> None:
    source = source_of("for x in loader:\n    step(x)\ndef update():\n    average.update_parameters(model)\n" + more)
    (update,) = (node for tree in source.trees.values() for node in ast.walk(tree) if is_update(node))
    assert in_idle_function(source, update) is idle
