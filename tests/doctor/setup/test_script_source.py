"""The user's code: what is called in it, how often, and on what. A single training step shows none of it."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, perceptron
from for_checks.scripts import SCRIPT, found, values
from quick import few_quick
from striate.doctor.diagnose import diagnose_setup, examine_code
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


def of_training(text: str, names: dict[str, Any]) -> list[str]:
    """What is found of a script of whose loop no step is made."""
    source = ScriptSource({"train.py": ast.parse(text)}, names, ("train.py", 1, len(text.split("\n"))), 1)
    return [finding.code for finding in examine_code(source, nn.Linear(2, 1), "").findings]


ADDED_UP = """
for step, (x, y) in enumerate(loader, start=1):
    loss = criterion(model(x), y)
    loss.backward()
    if step % accumulate == 0:
        {divided}
        optimizer.step()
        optimizer.zero_grad()
"""


@pytest.mark.parametrize("divided", ["p.grad.div_(seen)", "p.grad /= seen", "print(seen)"])
def test_gradients_that_are_divided_where_they_lie(divided: str) -> None:
    model = nn.Linear(2, 1)
    names = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "model": model, "accumulate": 4}
    assert of_training(ADDED_UP.format(divided=divided), names) == ["optim.accumulation"] * ("print" in divided)


def test_of_a_script_what_may_be_meant_is_a_note() -> None:
    x, y = next(iter(digits(640)))
    y = torch.where(torch.rand(640, generator=torch.Generator().manual_seed(0)) < 0.12, (y + 1) % 10, y)
    severities = []
    for source in (None, ScriptSource({}, {}, ("train.py", 1, 1), 5)):
        setup = make_setup(perceptron(), DataLoader(TensorDataset(x, y), 32, shuffle=True), source=source)
        said = diagnose_setup(setup, 60)
        severities += [one.severity for one in said.findings if one.code == "data.label-noise"]
    assert severities == ["warning", "note"]


def test_why_the_code_alone_is_read() -> None:
    """Not that a loader without batches was given, which nobody has."""
    place = "script.py", 1, 2
    source = ScriptSource({"script.py": ast.parse("for x in y:\n    pass")}, {}, place, None)
    skipped = examine_code(source, nn.Linear(2, 1), "no batches are found").skipped
    assert "no batches are found" in skipped.values()
    assert not [why for why in skipped.values() if "drop_last" in why]


FAULTS = {
    "eval.mode, never": ("    model.eval()\n", "", "before the evaluation"),
    "eval.mode, never back": ("    model.train()\n", "", "`model.train()` at the beginning"),
    "eval.wrong-axis": ("argmax(dim=1)", "argmax(dim=0)", "`outputs.argmax(dim=1)`"),
    "eval.threshold": ("outputs.argmax(dim=1)", "outputs.sigmoid() > 0", "`outputs.sigmoid() > 0.5`"),
    "eval.wrong-count, batches": ("correct / total", "correct / len(val_loader)", "divide by `total`"),
    "eval.wrong-count, other data": ("correct / total", "correct / len(loader.dataset)", "divide by `total`"),
    "eval.batch-means": (
        "correct += (predicted == y).sum().item()\n            total += len(y)\n    accuracy = correct / total",
        "correct += (predicted == y).float().mean()\n    accuracy = correct / len(val_loader)",
        "`correct / total`",
    ),
    "eval.worst-kept": ("accuracy > best_accuracy", "accuracy < best_accuracy", "`accuracy > best_accuracy`"),
    "eval.worst-kept, beside": (
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        "    is_best = accuracy < best_accuracy\n    best_accuracy = min(accuracy, best_accuracy)\n",
        "`accuracy > best_accuracy`",
    ),
    "eval.wrong-count, earlier epochs": (
        "correct, total = 0, 0\n    with",
        "with",
        "again before the loop",
    ),
    "eval.batch-means, meter": (
        "correct += (predicted == y).sum().item()",
        "correct += (predicted == y).sum().item()\n            top1.update(accuracy_of(outputs, y))",
        "`meter.update(value, len(targets))`",
    ),
    "optim.clip-order, scaled": ("        scaler.unscale_(optimizer)\n", "", "`scaler.unscale_(optimizer)` before"),
    "optim.clip-order, late": (
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        scaler.step(optimizer)\n",
        "        scaler.step(optimizer)\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
        "before `scaler.step(optimizer)`",
    ),
    "optim.clip-order, early": (
        "        scaler.scale(loss).backward()\n        scaler.unscale_(optimizer)\n"
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
        "        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        scaler.scale(loss).backward()\n",
        "before `scaler.step(optimizer)`",
    ),
    "optim.accumulation, cleared": (
        "        scaler.step(optimizer)\n",
        "        if (step + 1) % 4 == 0:\n            scaler.step(optimizer)\n",
        "`optimizer.zero_grad()` right after `scaler.step(optimizer)`",
    ),
    "eval.wrong-count, ones": ("total += len(y)", "total += 1", "`total += len(targets)`"),
    "optim.scheduler-calls, never": ("    scheduler.step()\n", "", "`scheduler.step()` after the loop over batches"),
    "optim.scheduler-calls, twice": (
        "        scaler.update()\n",
        "        scaler.update()\n        scheduler.step()\n",
        "`",
    ),
}


@pytest.mark.parametrize("name", few_quick(list(FAULTS), ["eval.wrong-axis", "optim.clip-order, late"]))
def test_a_fault_in_the_code_is_named_and_its_remedy_is_the_healthy_line(name: str) -> None:
    right, wrong, remedy = FAULTS[name]
    assert SCRIPT.count(right) == 1
    told = found(SCRIPT.replace(right, wrong), values())
    assert list(told) == [name.partition(",")[0]]
    assert remedy in told[name.partition(",")[0]]


def test_a_script_as_everyone_writes_it_is_healthy() -> None:
    assert found(SCRIPT, values()) == {}


@pytest.mark.parametrize(
    ("evaluated", "lowest"),
    [
        ("model(x).argmin(1) == y", True),
        ("outputs = model(x)\ntorch.argmin(outputs, 1) == y", True),
        ("model(x).argmax(1) == y", False),
        ("losses.argmin()\nmodel(x).argmax(1) == y", False),
        ("losses.argmin()", False),
    ],
)
def test_whether_the_lowest_output_is_the_prediction(evaluated: str, lowest: bool) -> None:
    names = {"model": nn.Linear(2, 3), "torch": torch, "losses": torch.zeros(3)}
    assert ScriptSource({"s.py": ast.parse(evaluated)}, names, ("s.py", 1, 1), 1).predicts_lowest is lowest
