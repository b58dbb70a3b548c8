"""Each planted fault of a network, its steps or its speed has a fixed twin that learns; the fault does worse."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import torch
from planted.case import FAULTS, Case, Fault
from planted.learning import answers, explained, learn
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

MODULES = [
    *(
        f"model_faults_{part}"
        for part in ("activations", "gradients", "modes", "order", "outputs", "parameters", "size")
    ),
    *(f"optim_faults_{part}" for part in ("gradients", "rates", "steps")),
    "speed_faults",
]
for name in MODULES:
    importlib.import_module(f"planted.{name}")
MINE = [f for f in FAULTS if f.build.__module__.removeprefix("planted.") in MODULES]

# Waste and carelessness: such a network may learn as well as its original.
HARMLESS = {"model.unused-parameters", "model.shared-weights", "model.redundant-filters"}
STEPS = 300
# What the fixed twin reaches: accuracy, area under the ROC curve, or R² (that of diabetes is 0.5 at best).
LEARNED = 0.8
LEARNED_OF_VALUES = 0.3


@dataclass(frozen=True)
class Learned:
    """What a training came to, on validation."""

    loss: float
    score: float


def score(outputs: Tensor, y: Tensor, task: str) -> float:
    """Accuracy, area under the curve of two classes with one output, or R²."""
    if not outputs.isfinite().all():
        return -math.inf
    if task == "regress":
        return explained(outputs, y)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return float(roc_auc_score(y, outputs.flatten()))
    return float((outputs.argmax(1) == y).double().mean())


def without_graph(step: Any) -> Any:
    """The step, its loss as a plain number: float() warns of one that has a gradient."""
    return step and (lambda *arguments: torch.as_tensor(step(*arguments)).detach())


def learned(case: Case) -> Learned:
    """Train as the case says, for some epochs."""
    length = math.ceil(len(case.train[0]) / 32) if isinstance(case.train, tuple) else len(case.train)
    learn(replace(case, step=without_graph(case.step)), max(3, math.ceil(STEPS / length)))
    outputs, y = answers(case, case.val or case.train)
    return Learned(float(case.loss(outputs, y)), score(outputs, y, case.task))


def original(fault: Fault, seed: int = 0) -> Case:
    """The same without the mistake."""
    return cast(Callable[[int, bool], Case], fault.build)(seed, True)


def least(case: Case) -> float:
    return LEARNED_OF_VALUES if case.task == "regress" else LEARNED


@pytest.mark.slow
@pytest.mark.parametrize("fault", MINE, ids=lambda fault: fault.name)
def test_the_mended_twin_learns_and_the_fault_does_worse(fault: Fault) -> None:
    fixed = original(fault)
    best = learned(fixed)
    assert best.score > least(fixed)
    if fault.code in HARMLESS or fault.code.startswith("speed."):
        return
    worse = learned(fault.build(0))
    assert not worse.loss < 1.15 * best.loss


def test_every_code_has_at_least_two_cases() -> None:
    codes = [fault.code for fault in MINE]
    assert len({fault.name for fault in MINE}) == len(MINE)
    assert {code: codes.count(code) for code in codes if codes.count(code) < 2} == {}


@pytest.mark.each_nth(6)
@pytest.mark.parametrize("fault", MINE, ids=lambda fault: fault.name)
def test_a_case_is_made_of_its_seed(fault: Fault) -> None:
    first, again = fault.build(3), fault.build(3)
    assert _same(first.model, again.model)


def _same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
