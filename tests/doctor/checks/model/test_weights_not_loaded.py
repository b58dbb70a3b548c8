"""`model.weights-not-loaded`: did the network load the weights that were read for it?"""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
from torch import Tensor, nn

from for_checks.asked import digits, perceptron
from for_checks.scripts import SCRIPT, codes_of_script, values
from remedies_tried import try_remedy
from striate.doctor.checks.model.weights_not_loaded import CHECK as WEIGHTS_NOT_LOADED
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.loaded_weights import LoadedWeights, watched_loads
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


class Forecasts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Forecast()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Forecast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("saved['state_dict']", True),
        ("{name.removeprefix('net.'): tensor for name, tensor in saved['state_dict'].items()}", False),
    ],
)
def test_a_part_does_not_get_the_names_of_the_full_network(given: str, wrong: bool) -> None:
    text = SCRIPT + f"\nnet = Forecast()\nnet.load_state_dict({given}, strict=False)\n"
    names = values() | {"model": Forecasts(), "Forecast": Forecast}
    assert codes_of_script(text, names, WEIGHTS_NOT_LOADED) == ["model.weights-not-loaded"] * wrong


@pytest.mark.parametrize(("taken", "wrong"), [("", True), ('["net"]', False)])
def test_of_what_was_saved_the_weights_are_loaded(taken: str, wrong: bool) -> None:
    text = SCRIPT + textwrap.dedent(f"""
        state = dict(net=model.state_dict(), epoch=epoch)
        torch.save(state, os.path.join(folder, "best.pth"))
        final.load_state_dict(torch.load(os.path.join(folder, "best.pth")){taken}, strict=False)
        """)
    assert codes_of_script(text, values(), WEIGHTS_NOT_LOADED) == ["model.weights-not-loaded"] * wrong


def found_in_loads(model: nn.Module, *states: dict[str, Any], strict: bool = False) -> list[Finding]:
    loads: dict[int, LoadedWeights] = {}
    with watched_loads(loads):
        for state in states:
            model.load_state_dict(state, strict=strict)
    source = ScriptSource({"train.py": ast.parse("")}, {}, ("train.py", 1, 1), 5, frozenset(), tuple(loads.values()))
    return list(WEIGHTS_NOT_LOADED.run(Evidence(make_setup(model, digits(), source=source), Clock(5.0))))


@pytest.mark.parametrize("before", ["module.", "backbone.encoder.", ""])
def test_names_of_a_wrapper_are_reported_with_the_line_that_removes_them(before: str) -> None:
    state = {before + name: tensor for name, tensor in perceptron().state_dict().items()}
    findings = found_in_loads(perceptron(), state)
    assert len(findings) == (1 if before else 0)
    for finding in findings:
        try_remedy(finding.remedy)
        line = str(finding.remedy).split("load_state_dict(")[1].split(")`, which")[0]
        assert not perceptron().load_state_dict(eval(line, {"state": state})).missing_keys


def test_the_remedy_for_a_wrapped_network_is_its_prefix() -> None:
    wrapped = nn.Module()
    wrapped.body = perceptron()
    (told,) = found_in_loads(wrapped, perceptron().state_dict())
    line = str(told.remedy).split("load_state_dict(")[1].split(")`, which")[0]
    wrapped.load_state_dict(eval(line, {"state": perceptron().state_dict()}))


def test_entirely_different_names_are_reported_too() -> None:
    (told,) = found_in_loads(perceptron(), {"a.b": perceptron().state_dict()["1.weight"]})
    assert "leave out `strict=False`" in told.remedy


def test_what_is_taken_or_loaded_again_is_let_pass() -> None:
    state = perceptron().state_dict()
    wrong = {f"module.{name}": tensor for name, tensor in state.items()}
    body = {name: tensor for name, tensor in state.items() if not name.startswith(list(state)[-1].split(".")[0])}
    assert not found_in_loads(perceptron(), body)
    assert not found_in_loads(perceptron(), wrong, state)
    assert not found_in_loads(perceptron(), state, strict=True)
    assert not found_in_loads(perceptron(), {})


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
    findings = list(WEIGHTS_NOT_LOADED.run(Evidence(make_setup(wrapped, digits(), source=source), Clock(5.0))))
    assert bool(findings) is not right
    for finding in findings:
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
    findings = list(WEIGHTS_NOT_LOADED.run(Evidence(make_setup(model, digits(), source=source), Clock(5.0))))
    assert bool(findings) is not right


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
    findings = list(WEIGHTS_NOT_LOADED.run(Evidence(make_setup(model, digits(), source=source), Clock(5.0))))
    assert bool(findings) is not right
