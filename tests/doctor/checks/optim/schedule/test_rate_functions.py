"""Rates that a function of the script sets for each epoch, as `adjust_learning_rate(optimizer, epoch, args)`, or
returns for each step, as `group["lr"] = get_lr(it)`."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest

from for_checks.scripts import values
from striate.doctor.checks.optim.schedule.rate_functions import rates_of_steps
from striate.doctor.setup.script_source import ScriptSource

COUNTED = """
def get_lr(it, most):
    return max(1e-5, 0.1 * 0.5 * (1 + math.cos(math.pi * min(it / most, 1))))
{loops}        for group in optimizer.param_groups:
            group["lr"] = lr
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""


LOOPS = {
    "epochs and batches": "for epoch in range(5):\n    for i, (x, y) in enumerate(loader):\n"
    "        it = epoch * len(loader) + i\n        lr = get_lr(it, most)\n",
    "a counter": "for epoch in range(5):\n    for x, y in loader:\n"
    "        lr = get_lr(steps, most)\n        steps += 1\n",
    "a range": "for steps in range(100):\n    for x, y in [draw()]:\n        lr = get_lr(steps, most)\n",
}


@pytest.mark.parametrize("loops", list(LOOPS))
@pytest.mark.parametrize(("most", "early"), [(10, True), (100, False)])
def test_a_function_of_the_rate_is_called_for_all_steps(loops: str, most: int, early: bool) -> None:
    names: dict[str, Any] = values() | {"math": math, "most": most, "steps": 0}
    text = COUNTED.format(loops=LOOPS[loops])
    exec(text.partition("for ")[0], names)
    tree = ast.parse(text)
    loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For))
    source = ScriptSource({"train.py": tree}, names, ("train.py", loop.lineno, loop.end_lineno or 0), 5)
    (rates,) = rates_of_steps(source, 100)
    assert len(rates) == 100
    assert rates[0] == pytest.approx(0.1)
    assert (rates[10] < 1e-4) is early
