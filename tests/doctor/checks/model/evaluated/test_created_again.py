"""A network that a script creates again in each epoch."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch import nn

from striate.doctor.checks.model.evaluated.created_again import created_in_each_epoch
from striate.doctor.setup.script_source import ScriptSource


def found(text: str) -> str | None:
    """What is measured in a script whose training loop goes over `loader`."""
    tree = ast.parse(text)
    loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For) and ast.unparse(node.iter) == "loader")
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "train")
    calling = frozenset({("t.py", loop.lineno), *(("t.py", call.lineno) for call in calls)})
    network = nn.Linear(2, 2)
    names = {"net": network, "model": network, "other": nn.Linear(2, 2)}
    source = ScriptSource({"t.py": tree}, names, ("t.py", loop.lineno, loop.end_lineno or 0), 5, calling=calling)
    told = created_in_each_epoch(cast(Any, SimpleNamespace(source=source, setup=SimpleNamespace(model=network))))
    return None if told is None else told.measured


IN_FUNCTION = "def train(model):\n    for x, y in loader:\n        step(model, x, y)\n"


@pytest.mark.parametrize(
    "text",
    [
        IN_FUNCTION + "for epoch in range(9):\n    model = Net()\n    train(model)\n",
        "for n_epoch, _ in enumerate(range(9)):\n"
        "    net, optimizer = make(3), sgd()\n"
        "    for x, y in loader:\n        step(x, y)\n",
    ],
)
def test_each_epoch_begins_with_a_new_network(text: str) -> None:
    assert "creates the network again in each epoch" in (found(text) or "")


@pytest.mark.parametrize(
    "text",
    [
        IN_FUNCTION + "model = Net()\nfor epoch in range(9):\n    train(model)\n",
        IN_FUNCTION + "for fold in folds:\n    model = Net()\n    train(model)\n",
        IN_FUNCTION
        + "for epochs in (1, 5):\n    model = Net()\n    for epoch in range(epochs):\n        train(model)\n",
        IN_FUNCTION + "for epoch in range(9):\n    model = Net()\n    model.load_state_dict(best)\n    train(model)\n",
        IN_FUNCTION + "for epoch in range(9):\n    model = copy.deepcopy(other)\n    train(model)\n",
        IN_FUNCTION + "for epoch in range(9):\n    other = Net()\n    train(model)\n",
    ],
)
@pytest.mark.each_nth(1)
def test_a_new_network_for_each_training(text: str) -> None:
    assert found(text) is None
