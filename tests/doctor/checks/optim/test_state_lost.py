"""An optimizer that is made anew for each batch."""

from __future__ import annotations

import pytest
import torch

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.optim.state_lost import STATE_LOST

LOOP = """
for x, y in loader:
    {before}
    optimizer = torch.optim.{call}
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
ADAM = "Adam(model.parameters(), lr=1e-3)"


@pytest.mark.parametrize(
    ("before", "call", "momentum", "found"),
    [
        ("pass", ADAM, 0.0, True),
        ("pass", "Adam([{'params': model.parameters()}], lr=1e-3)", 0.0, True),
        ("pass", "SGD(model.parameters(), lr=0.1, momentum=0.9)", 0.9, True),
        ("pass", "SGD(model.parameters(), lr=0.1)", 0.0, False),  # has no state
        ("model = copy.deepcopy(meta)", ADAM, 0.0, False),  # a learner of its own for each task
        ("pass", "Adam([noise], lr=1e-3)", 0.0, False),  # an image that is optimized
    ],
)
def test_an_optimizer_made_for_each_batch_is_found(before: str, call: str, momentum: float, found: bool) -> None:
    model = perceptron()
    kind = getattr(torch.optim, call.partition("(")[0])
    options = {"momentum": momentum} if momentum else {}
    names = {"torch": torch, "model": model, "noise": torch.zeros(1)}
    given = read(
        LOOP.format(before=before, call=call), STATE_LOST, model, digits(), names=names,
        optimizer=lambda p: kind(p, lr=1e-3, **options),
    )  # fmt: skip
    assert [one.code for one in given] == ["optim.state-lost"] * found


def test_an_optimizer_before_the_loop_is_right() -> None:
    model = perceptron()
    text = f"optimizer = torch.optim.{ADAM}\nfor x, y in loader:\n    optimizer.step()\n"
    names = {"torch": torch, "model": model}
    assert not read(text, STATE_LOST, model, digits(), names=names, optimizer=torch.optim.Adam)
