"""Orders of tags, of triplets and of steps, and what is far larger than it should be: faults that were met in scripts,
and their healthy twins."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from striate.doctor.script.training_loop import find_loop


class Asked(BaseException):
    """Ends a step as soon as the network is called."""


def test_what_is_asked_only_makes_no_step(tmp_path: Path) -> None:
    """Else an evaluation at each so many steps comes between questions, with batches of its own."""
    file = tmp_path / "script.py"
    file.write_text(
        "def run(model):\n"
        "    for number in range(99):\n"
        "        numbers.append(number)\n"
        "        xb, yb = draw()\n"
        "        loss = model(xb) + yb\n"
        "        found.append(inspect.currentframe())\n"
        "        return\n"
    )
    found: list[Any] = []
    numbers: list[int] = []
    network = nn.Linear(2, 1)
    names = {"found": found, "inspect": inspect, "numbers": numbers, "draw": lambda: (torch.ones(4, 2), torch.ones(4))}
    names["__name__"] = "__main__"
    exec(compile(file.read_text(), str(file), "exec"), names)
    names["run"](network)
    loop = find_loop(found)
    assert loop is not None
    numbers.clear()

    def ask(*_: Any) -> None:
        raise Asked

    hook = network.register_forward_pre_hook(ask)
    for _ in range(3):
        with pytest.raises(Asked):
            loop.step(network, next(iter(loop.batches)), None, None)
    hook.remove()
    for _ in range(2):
        loop.step(network, next(iter(loop.batches)), None, None)
    assert numbers == [1, 1, 1, 1, 2]
