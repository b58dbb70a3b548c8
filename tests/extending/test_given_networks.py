"""A class or a function as the network: it is called where the network is built, or refused; never another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import striate
from striate.api import diagnose_training, networks, resume, verify
from striate.api.training import run_and_network
from striate.cli.main import main
from striate.errors import StriateError
from striate.models import trusted_code
from striate.runs.directory import open_run, read_seen

PLAIN = {"execution.plan": "plain"}
X, Y = torch.rand(24, 1, 8, 8), torch.arange(24) % 3


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.out = nn.Flatten(), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.flatten(x))


class Sized(Fixed):
    def __init__(self, in_channels: int = 3, num_classes: int = 1000) -> None:
        super().__init__()
        self.out = nn.Linear(64 * in_channels, num_classes)


def hidden(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width))


def no_network() -> int:
    return 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> striate.api.Run:
    out = tmp_path_factory.mktemp("given") / "run"
    return striate.train("digits", Sized, epochs=1, out=out, set=PLAIN)


def test_a_class_is_trained_and_given_channels_and_classes(run: striate.api.Run) -> None:
    assert run.metrics["model"] == "given in Python: Sized"
    assert run.metrics["params"] == 64 * 10 + 10
    assert isinstance(run.load().module, Sized)


def test_a_module_that_hardly_trained_is_told_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Fixed()
    run = striate.train("digits", module, epochs=1, out="r", set=PLAIN)
    assert "striate train" not in str(run.metrics["findings"])
    again = unescape(run.report.read_text(encoding="utf-8"))
    assert "striate.train(model=…, config='r/config.yaml', out='r-again')" in again
    assert "striate train --config" not in again
    assert [finding.code for finding in run.findings] == [entry["code"] for entry in run.metrics["findings"]]
    assert run.findings[0].measured in unescape(run._repr_html_())
    trained = run.load()
    assert isinstance(trained.module, Fixed)
    assert trained.module is not module
    assert run_and_network(trained)[1] is trained
    with pytest.raises(StriateError, match="a network without a run"):
        striate.api.robustness(replace(trained, run=None))
    with monkeypatch.context() as other_process:
        other_process.setattr(networks, "_modules", {})
        with pytest.raises(StriateError) as caught:
            resume(run.path, quiet=True)
        assert caught.value.remedy == "striate.api.resume('r', module=…)"
        assert "module given in Python" in verify(run.path).not_replayed
    with pytest.raises(StriateError) as caught:
        striate.train(config=run.path / "config.yaml")
    assert caught.value.got == "a module given in Python: Fixed"
    with pytest.raises(StriateError, match=r"weights of r, trained on 1,\d+ of the 1,797 samples"):
        striate.train("digits", module, epochs=1, cv="2x1", set=PLAIN)
    other = striate.train(model=module, config=run.path / "config.yaml", set={"data.split_seed": 1}, out="again")
    assert "starts from the weights that it learned in r" in (other.path / "events.jsonl").read_text()
    assert "data.leak" in [finding.code for finding in other.findings]
    assert len(read_seen(open_run(other.path))) > 1500  # with those of the run before


def test_another_process_is_given_the_class_again(
    run: striate.api.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trusted_code, "_objects", {})
    assert main(["eval", str(run.path)]) == 2
    assert "striate.load(path, module=…)" in capsys.readouterr().err
    with pytest.raises(StriateError, match="an int"):
        striate.load(run.path, module=3)  # type: ignore[arg-type]
    assert isinstance(striate.load(run.path, module=Sized).module, Sized)
    assert resume(run.path, module=Sized, quiet=True).metrics == run.metrics


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "class": Fixed,
    "function": lambda classes: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_function_calls_it(name: str) -> None:
    made = NETWORKS[name]
    assert striate.build(made, (1, 8, 8), 10)(X).shape == (24, 10)
    assert striate.summarize(made, (1, 8, 8), outputs=10).params == 650
    assert "given in Python" in diagnose_training("digits", made, seconds=0.01).model
    assert "given in Python" in striate.plan_training("digits", made, seconds=0.1).model


def test_a_class_among_the_fields() -> None:
    assert striate.plan_training("digits", set={"model.name": Fixed}, seconds=0.1).model == "given in Python: Fixed"
    with pytest.raises(StriateError, match=r"model\.name"):
        striate.plan_training("digits", set={"model.name": Fixed()}, seconds=0.1)


def test_the_doctor_calls_a_class() -> None:
    assert striate.diagnose(Fixed, (X, Y), budget_seconds=0.5).looked_at


@pytest.mark.slow
def test_a_sweep_makes_a_network_a_trial() -> None:
    found = striate.sweep("digits", {"optim.lr": [0.01, 0.1]}, Fixed, trials=2, seeds=1, epochs=1, out="s", set=PLAIN)
    assert "given in Python: Fixed" in (found.best / "config.yaml").read_text()


WRONG: dict[str, tuple[object, str]] = {
    "a number": (5, "an int"),
    "nothing": (None, 'model="auto"'),
    "a state": ({"weight": X}, "a dict"),
    "a list": ([Fixed()], "a list"),
    "another argument": (hidden, r"required parameters width(.|\n)*lambda: hidden\(width=…\)"),
    "no network": (no_network, "`no_network` returned int"),
}


class Wrapped(Fixed):
    def __init__(self, wrap: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(super().forward(x))


UNUSABLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "scripted": (lambda: torch.jit.trace(Fixed(), X[:2]), "made from"),
    "no numbers": (lambda: Fixed().to("meta"), "no values"),
    "a tuple": (lambda: Wrapped(lambda z: (z, z)), r"one tensor, such as outputs\[0\]"),
    "a dict": (lambda: Wrapped(lambda z: {"logits": z}), r"one tensor, such as outputs\['logits'\]"),
    "frozen": (lambda: Fixed().requires_grad_(False), r"model Fixed(.|\n)*requires_grad_\(True\)"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_module_that_cannot_be_trained_is_refused(name: str) -> None:
    make, told = UNUSABLE[name]
    with pytest.raises(StriateError, match=told):
        striate.train("digits", make(), epochs=1, set=PLAIN)


def test_a_module_that_cannot_be_explained_is_refused() -> None:
    with pytest.raises(StriateError, match="no values"):
        striate.explain(Fixed().to("meta"), X[0])


@pytest.mark.parametrize("name", WRONG)
def test_all_else_is_refused(name: str) -> None:
    model, told = WRONG[name]
    for call in (striate.train, striate.plan_training, striate.find_learning_rate, diagnose_training):
        with pytest.raises(StriateError, match=told):
            call("digits", model)  # type: ignore[operator]
    with pytest.raises(StriateError):
        striate.sweep("digits", model=model)  # type: ignore[arg-type]
    for look in (striate.build, striate.summarize):
        with pytest.raises(StriateError, match=told):
            look(model, (1, 8, 8))  # type: ignore[operator]
    assert not Path("runs").exists()


def test_a_network_in_the_place_of_the_space() -> None:
    with pytest.raises(StriateError, match="model=…"):
        striate.sweep("digits", Fixed)  # type: ignore[arg-type]
    with pytest.raises(StriateError, match=r"model=lambda: Fixed\(…\)"):
        striate.sweep("digits", model=Fixed())


def test_a_trained_network_and_a_run_as_the_network(run: striate.api.Run) -> None:
    with pytest.raises(StriateError, match=r"trained\.module"):
        striate.train("digits", run.load())  # type: ignore[arg-type]
    with pytest.raises(StriateError, match="give its folder"):
        striate.train("digits", run)  # type: ignore[arg-type]
