"""States, rates, masks and metrics that scripts keep in code of their own: faults that were met, and healthy twins."""

from __future__ import annotations

import ast
from types import SimpleNamespace
from typing import Any

import pytest
from test_source_checks import SCRIPT, found, values
from torch import nn

from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.model.evaluates_untrained import _are_chosen
from striate.doctor.checks.optim.lr_schedule import _ends_early
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(("added", "wrong"), [("mean(1) / y", False), ("mean() / 2", True)])
def test_errors_of_each_sample_in_units_of_its_own(added: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y).sum().item()", f"errors.append(outputs.abs().{added})")
    text = text.replace("    accuracy = correct / total\n", "    accuracy = torch.stack(errors).mean().item()\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize(("test", "chosen"), [("score > best", True), ("state is None", False), ("", False)])
def test_copied_tensors_by_name_are_the_best_state(test: str, chosen: bool) -> None:
    model = nn.Linear(2, 2)
    kept = "state = {k: v.clone() for k, v in model.state_dict().items()}"
    text = f"for x, y in loader:\n    if {test}:\n        {kept}\n" if test else f"{kept}\nfor x, y in loader:\n"
    names = {"state": {name: tensor.clone() for name, tensor in model.state_dict().items()}}
    source = ScriptSource({"train.py": ast.parse(text + "    train(x, y)\n")}, names, ("train.py", 1, 4), 5)
    setup: Any = SimpleNamespace(source=source, model=model)
    assert _are_chosen(setup) is chosen


RISE = [0.05 * i for i in range(1, 21)]


@pytest.mark.parametrize(
    ("rates", "wrong"),
    [
        (RISE + [0.1] * 180, True),
        (RISE + [1.0] * 5 + [0.1] * 175, False),  # a step down, as people mean it
        (RISE + [0.1] * 60, False),
        (RISE + [0.5] * 180, False),
    ],
)
def test_a_rate_that_drops_from_the_peak_of_its_warmup(rates: list[float], wrong: bool) -> None:
    evidence: Any = SimpleNamespace(
        trial=SimpleNamespace(rows=rates), setup=SimpleNamespace(source=None, train=range(len(rates)))
    )
    assert (_ends_early(evidence, rates, [(rates, len(rates), "step")]) is not None) is wrong
