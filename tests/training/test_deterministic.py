"""`--deterministic`: the same bits each time, or a refusal that names the layer; put back after."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from short_runs import SMALL, asked_for, events_of, parameters
from torch import nn

from striate.cli import main
from striate.errors import ConfigError, TrainingError
from striate.training.config import Config
from striate.training.config_file import config_from_yaml
from striate.training.deterministic import deterministic_operations, layer_named, note
from striate.training.execution import execution_settings
from striate.training.prepare import prepare

FIXED = {"execution__deterministic": True, "execution__device": "cpu"}


def settings() -> tuple[object, ...]:
    import torch._inductor.config as inductor

    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        inductor.deterministic,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = settings()
    yield
    assert settings() == before


class Unpooled(nn.Module):
    """Pools and puts back: MaxUnpool has no deterministic form on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.out(self.back(*self.pool(x)).flatten(1)))


class _Scattered(torch.autograd.Function):
    """The identity, whose backward has no deterministic form."""

    @staticmethod
    def forward(_: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(_: object, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0].clone().put_(torch.tensor([0]), torch.tensor([0.0]))


class Scattering(nn.Module):
    """One layer of that."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(_Scattered.apply(x))


def test_the_layer_without_a_deterministic_form_is_named_before_anything_is_written() -> None:
    module = Unpooled()
    with pytest.raises(TrainingError) as caught:
        prepare(asked_for(**FIXED), module)
    assert "`back` (MaxUnpool2d)" in caught.value.where
    assert "max_unpool" in caught.value.got
    assert "--deterministic" in caught.value.remedy
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_also_in_the_backward_pass() -> None:
    sequence = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Scattering(), nn.ReLU(), nn.Linear(16, 10))
    with pytest.raises(TrainingError, match=r"the gradient of 2 \(Scattering\)"):
        prepare(asked_for(**FIXED), sequence)


def test_without_it_the_same_network_trains() -> None:
    prepared = prepare(asked_for(execution__device="cpu", execution__plan="plain"), Unpooled())
    next(iter(events_of(prepared)))


def test_what_comes_up_later_is_refused_too() -> None:
    config = prepare(asked_for(**FIXED)).config
    with pytest.raises(TrainingError, match="put_"), execution_settings(config):
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))


def test_a_user_who_had_it_on_keeps_it() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        before = settings()
        with deterministic_operations(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
        assert settings() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_workspace_of_ones_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic_operations(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    monkeypatch.undo()


def test_a_workspace_that_came_too_late_has_a_remedy() -> None:
    said = "Deterministic behavior was enabled with either … set CUBLAS_WORKSPACE_CONFIG=:4096:8"
    with pytest.raises(TrainingError) as caught, layer_named(None):
        raise RuntimeError(said)
    assert caught.value.remedy.startswith("CUBLAS_WORKSPACE_CONFIG=:4096:8 striate train")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"), layer_named(nn.Linear(2, 2)):
        raise RuntimeError("shapes do not fit")


def test_nothing_is_decided_by_measuring() -> None:
    prepared = prepare(asked_for(**FIXED))
    execution = prepared.config.execution
    assert (execution.plan, execution.precision, execution.compile) == ("plain", "fp32", "off")
    assert note(execution) in prepared.notes
    with pytest.raises(ConfigError, match="--epochs 10"):
        prepare(asked_for(**FIXED, epochs=None, budget__minutes=1))


def test_of_whole_batches_the_bits_are_those_of_a_run_without_it() -> None:
    """On a CPU nothing that the zoo computes is other than deterministic."""
    whole = {"execution__deterministic": True, "execution__batch_parts": 1}
    one, other = (prepare(asked_for(execution__device="cpu", batch=64, **on)) for on in (whole, {}))
    for prepared in (one, other):
        list(events_of(prepared))
    for name, weight in parameters(one).items():
        assert torch.equal(weight, parameters(other)[name]), name


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "digits", "--model", SMALL, "--epochs", "1", "--deterministic", "--out"]
    runs = [tmp_path / "one", tmp_path / "two"]
    assert [main([*command, str(run)]) for run in runs] == [0, 0]
    config = config_from_yaml(runs[0] / "config.yaml")
    assert config.execution.deterministic
    assert "deterministic" in capsys.readouterr().err
    weights = [torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"] for run in runs]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert Config().execution.deterministic is False


def test_the_command_line_refuses_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "digits", "--minutes", "1", "--deterministic", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "--epochs 10" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
