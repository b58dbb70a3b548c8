"""The syntax of loops, and what its expressions are worth among the user's names."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import pytest

from striate.doctor.script.loop_syntax import passes_of


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
