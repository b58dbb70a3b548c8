"""Metrics of scikit-learn that an evaluation gives the predictions as the true values, and these as the predictions."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn
from torch.utils.data import DataLoader

from for_checks.asked import digits, perceptron
from striate.doctor.checks.eval.metrics.exchanged_arguments import arguments_exchanged, exchanged_in_code
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.library_training import LibraryTraining
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding

TEXT = """
from sklearn.metrics import accuracy_score, balanced_accuracy_score, classification_report
def evaluate(model, loader):
    pairs = [(model(x).argmax(1), y) for x, y in loader]
    told, labels = (torch.cat(part) for part in zip(*pairs))
    return {{"score": {metric}}}
evaluate(model, val_loader)
"""


def asked_about(metric: str, library: Any = None) -> list[Finding]:
    text, val = TEXT.format(metric=metric), DataLoader(digits().dataset, 80)
    model = perceptron()
    names: dict[str, Any] = {"model": model, "val_loader": val, "torch": torch, "__name__": "script"}
    exec(text.rpartition("evaluate(")[0], names)
    trainer = None
    if library:

        def logged(network: nn.Module, batches: Any) -> Any:
            return names["evaluate"](network, batches)

        trainer = LibraryTraining("a Trainer", 3, evaluate=logged)
    source = ScriptSource({"s.py": ast.parse(text)}, names, ("s.py", 1, 1), 3, library=trainer)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    setup = make_setup(model, digits(), val, loss=nn.CrossEntropyLoss(), optimizer=optimizer, source=source)
    with state_preserved(setup):
        return list(arguments_exchanged(Evidence(setup, Clock(60.0))))


@pytest.mark.parametrize("library", [False, True])
@pytest.mark.parametrize(
    ("metric", "wrong"),
    [
        ("balanced_accuracy_score(told, labels)", True),
        ("balanced_accuracy_score(labels, told)", False),
        ("balanced_accuracy_score(y_pred=told, y_true=labels)", False),
        ("accuracy_score(told, labels)", False),
        ("balanced_accuracy_score(labels, labels)", False),
    ],
)
def test_the_labels_come_first_where_it_makes_a_difference(metric: str, wrong: bool, library: bool) -> None:
    found = asked_about(metric, library)
    assert [(one.where, "`balanced_accuracy_score` gets" in one.measured) for one in found] == [
        ("line 6", True)
    ] * wrong


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("p = net(x).squeeze(1).numpy() * 2 + 1\nr2 = r2_score(p, truth)", True),
        ("p = net(x).squeeze(1).numpy() * 2 + 1\nr2 = r2_score(truth, p)", False),
        ("r2 = r2_score(net(x).detach().numpy(), truth)", True),
        ("def told(a, b):\n    return r2_score(b, a)\ntold(truth, net(x).numpy() * 2)", True),
        ("def told(a, b):\n    return r2_score(a, b)\ntold(truth, net(x).numpy() * 2)", False),
        ("r2 = r2_score(truth, truth)", False),
        ("r2 = r2_score(net(x).detach().numpy(), net(x).detach().numpy())", False),
    ],
)
def test_metrics_outside_of_functions(lines: str, wrong: bool) -> None:
    names = {"net": nn.Linear(3, 1), "x": torch.zeros(4, 3), "truth": torch.zeros(4).numpy(), "r2_score": r2_score}
    source = ScriptSource({"s.py": ast.parse(lines)}, names, ("s.py", 1, 1), 3)
    found = list(exchanged_in_code(SimpleNamespace(source=source)))  # type: ignore[arg-type]
    assert [one.code for one in found] == ["eval.wrong-count"] * wrong
