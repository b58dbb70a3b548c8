"""Weights that a script reads and its network does not take are named, and the remedy takes them."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from asked import digits, perceptron
from torch import nn

from remedies_tried import try_remedy
from striate.doctor.checks.model.weights_not_loaded import CHECK
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.loaded_weights import LoadedWeights, watched_loads
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def found(model: nn.Module, *states: dict[str, Any], strict: bool = False) -> list[Finding]:
    loads: dict[int, LoadedWeights] = {}
    with watched_loads(loads):
        for state in states:
            model.load_state_dict(state, strict=strict)
    source = ScriptSource({"train.py": ast.parse("")}, {}, ("train.py", 1, 1), 5, frozenset(), tuple(loads.values()))
    return list(CHECK.run(Evidence(make_setup(model, digits(), source=source), Clock(5.0))))


@pytest.mark.parametrize("before", ["module.", "backbone.encoder.", ""])
def test_names_of_a_wrapper_are_said_with_the_line_that_takes_them_off(before: str) -> None:
    state = {before + name: tensor for name, tensor in perceptron().state_dict().items()}
    told = found(perceptron(), state)
    assert len(told) == (1 if before else 0)
    for finding in told:
        try_remedy(finding.remedy)
        line = str(finding.remedy).split("load_state_dict(")[1].split(")`, which")[0]
        assert not perceptron().load_state_dict(eval(line, {"state": state})).missing_keys


def test_a_wrapped_network_is_told_what_to_put_before_the_names() -> None:
    wrapped = nn.Module()
    wrapped.body = perceptron()
    (told,) = found(wrapped, perceptron().state_dict())
    line = str(told.remedy).split("load_state_dict(")[1].split(")`, which")[0]
    wrapped.load_state_dict(eval(line, {"state": perceptron().state_dict()}))


def test_other_names_altogether_are_said_too() -> None:
    (told,) = found(perceptron(), {"a.b": perceptron().state_dict()["1.weight"]})
    assert "leave out `strict=False`" in told.remedy


def test_what_is_taken_or_loaded_again_is_let_pass() -> None:
    state = perceptron().state_dict()
    wrong = {f"module.{name}": tensor for name, tensor in state.items()}
    body = {name: tensor for name, tensor in state.items() if not name.startswith(list(state)[-1].split(".")[0])}
    assert not found(perceptron(), body)
    assert not found(perceptron(), wrong, state)
    assert not found(perceptron(), state, strict=True)
    assert not found(perceptron(), {})


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("final.load_state_dict(best, strict=False)", False),
        ("final.load_state_dict({n.replace('module.', ''): t for n, t in best.items()}, strict=False)", True),
        ("final.load_state_dict(best)", True),
        ("wrapped.load_state_dict(best, strict=False)", True),
    ],
)
def test_a_file_of_a_wrapper_that_is_loaded_after_training_is_named(line: str, right: bool) -> None:
    wrapped = nn.DataParallel(perceptron())
    source = ScriptSource({"train.py": ast.parse(line)}, {"wrapped": wrapped}, ("train.py", 1, 1), 5)
    told = list(CHECK.run(Evidence(make_setup(wrapped, digits(), source=source), Clock(5.0))))
    assert bool(told) is not right
    for finding in told:
        try_remedy(finding.remedy)


@pytest.mark.parametrize(
    ("lines", "right"),
    [
        ("best = Sequential()\nbest.load_state_dict({f'model.{k}': v for k, v in state.items()}, strict=False)", False),
        ("state = {'net.' + k: v for k, v in state.items()}\nmodel.load_state_dict(state, strict=False)", False),
        ("best = Sequential()\nbest.load_state_dict({k: v for k, v in state.items()}, strict=False)", True),
        (
            "best = Wrapped(model)\nbest.load_state_dict({f'model.{k}': v for k, v in state.items()}, strict=False)",
            True,
        ),
        ("best = Sequential()\nbest.load_state_dict({f'model.{k}': v for k, v in state.items()})", True),
    ],
)
def test_a_beginning_that_no_name_has_is_named(lines: str, right: bool) -> None:
    model = perceptron()
    source = ScriptSource({"train.py": ast.parse(lines)}, {"model": model}, ("train.py", 1, 1), 5)
    told = list(CHECK.run(Evidence(make_setup(model, digits(), source=source), Clock(5.0))))
    assert bool(told) is not right


@pytest.mark.parametrize(
    ("saved", "loaded", "right"),
    [
        ("nn.DataParallel(model).state_dict()", "best.load_state_dict(state, strict=False)", False),
        ("nn.DataParallel(model).state_dict()", "best.load_state_dict(state)", True),
        ("model.state_dict()", "best.load_state_dict(state, strict=False)", True),
        (
            "nn.DataParallel(model).state_dict()",
            "best.load_state_dict({k.removeprefix('module.'): v for k, v in state.items()}, strict=False)",
            True,
        ),
    ],
)
def test_names_that_a_wrapper_gave_to_what_is_saved_are_taken_off(saved: str, loaded: str, right: bool) -> None:
    model, lines = perceptron(), f"torch.save({saved}, 'best.pt')\nbest = Sequential()\n{loaded}"
    source = ScriptSource({"train.py": ast.parse(lines)}, {"model": model}, ("train.py", 1, 1), 5)
    told = list(CHECK.run(Evidence(make_setup(model, digits(), source=source), Clock(5.0))))
    assert bool(told) is not right
