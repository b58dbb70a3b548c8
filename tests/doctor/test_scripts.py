"""The doctor finds the bug in training scripts that others wrote, and is content with them without it."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
import scripts
import torch
from torch import nn

import striate
from quick import few_quick

NAMES = sorted(found.name for found in pkgutil.iter_modules(scripts.__path__))


def script(name: str) -> Any:
    return importlib.import_module(f"scripts.{name}")


@pytest.mark.parametrize("name", few_quick(NAMES, NAMES[:1]))
def test_the_bug_is_named(name: str) -> None:
    found = striate.diagnose(**script(name).setup(broken=True))
    assert not found.healthy
    first_two = [finding.code for finding in found.findings[:2]]
    assert set(first_two) & set(script(name).CODES), [str(finding) for finding in found.findings]


@pytest.mark.parametrize("name", few_quick(NAMES, NAMES[1:2]))
def test_nothing_is_wrong_without_the_bug(name: str) -> None:
    found = striate.diagnose(**script(name).setup(broken=False))
    assert found.healthy, [str(finding) for finding in found.findings]


def test_each_script_has_a_bug_of_its_own() -> None:
    assert len(NAMES) >= 6
    assert len({script(name).CODES[0] for name in NAMES}) == len(NAMES)


def loss_after(epochs: int, parts: dict[str, Any]) -> float:
    """The loss on validation samples after training, or infinity where it isn't a number."""
    model, loss = parts["model"], parts.get("loss") or nn.CrossEntropyLoss()
    for _ in range(epochs):
        model.train()
        for batch in parts["train"]:
            parts["step"](model, batch, parts["optimizer"], loss)
    model.eval()
    with torch.no_grad():
        pairs = [parts["val"]] if isinstance(parts["val"], tuple) else parts["val"]
        values = torch.stack([loss(model(x), y) for x, y in pairs])
    return float(values.mean().nan_to_num(torch.inf))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_bug_matters(name: str) -> None:
    right, wrong = (loss_after(12, script(name).setup(broken)) for broken in (False, True))
    assert right < 0.5
    assert wrong > 1.3 * right
