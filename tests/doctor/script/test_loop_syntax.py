"""The syntax of loops, and what its expressions are worth among the user's names."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from striate.doctor.script.loop_syntax import harmless_value, passes_of, value_of


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("for i in range(9):\n    pass", 9),
        ("for x in xs:\n    pass", None),
        ("while step < args.steps:\n    step += 1", 400),
        ("while self.step <= 400:\n    self.step += 1", 401),
        ("while True:\n    step += 1\n    if step > 400:\n        break", 401),
        ("while 1:\n    if step == args.steps:\n        print()\n        return\n    step += 1", 400),
        ("while True:\n    step += 1\n    if step % 100 == 0:\n        print()\n    if bad:\n        break", None),
        ("while step < 400:\n    step += len(x)", None),
        ("while step < limit():\n    step += 1", None),
        ("while loss > 400:\n    step += 1", None),
    ],
)
def test_a_loop_ends_where_its_counter_does(text: str, passes: int | None) -> None:
    loop = ast.parse(text.replace("return", "break")).body[0]
    assert isinstance(loop, ast.For | ast.While)
    own = SimpleNamespace(step=0)
    names = {"step": 0, "self": own, "args": SimpleNamespace(steps=400), "xs": [1], "x": [1], "bad": False, "loss": 1}
    assert passes_of(loop, names) == passes


def test_counting_passes_runs_no_function_of_the_script() -> None:
    called = list[str]()
    names = {"run": lambda: called.append("run") or [1, 2], "x": [1, 2, 3]}
    loop = ast.parse("for name, value in zip(('loss', 'accuracy'), run()):\n    pass").body[0]
    assert isinstance(loop, ast.For)
    assert harmless_value(loop.iter, names) is None
    assert passes_of(loop, names) is None
    assert harmless_value(ast.parse("range(len(x) // 2)", mode="eval").body, names) == range(1)
    assert not called


def test_an_expression_that_is_read_makes_no_training_step() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1)

    def train() -> list[int]:
        (2 * weight).backward()
        optimizer.step()
        return [1, 2]

    assert value_of(ast.parse("train()", mode="eval").body, {"train": train}) is None
    assert weight.item() == 1
    assert train() == [1, 2]  # the script itself may
