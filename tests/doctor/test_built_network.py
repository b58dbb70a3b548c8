"""The network of a diagnosis is named as everywhere else, and built for the data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import striate
from striate.doctor.built_network import built_network
from striate.errors import ModelError, UsageError

X, Y = torch.rand(24, 1, 8, 8), torch.arange(24) % 3
MASKS = (X[:, 0] > 0.5).long()


def sized(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * 64, outputs))


NAMED: list[tuple[Any, Any, str, tuple[int, ...]]] = [
    ("conv(4,3) relu fc(3)", (X, Y), "classify", (24, 3)),
    ("mlp(8)", (X, Y), "classify", (24, 3)),
    ("mlp(8)", DataLoader(TensorDataset(X, Y), 8), "classify", (24, 3)),
    (sized, (X, Y), "classify", (24, 3)),
    ("mlp(8)", (X, torch.rand(24, 2)), "regress", (24, 2)),
    ("conv(4,3,pad=same) relu conv(2,1)", (X, MASKS), "segment", (24, 2, 8, 8)),
]


@pytest.mark.parametrize(("model", "train", "task", "shape"), NAMED)
def test_a_name_is_built_for_shape_and_classes_of_the_data(
    model: Any, train: Any, task: str, shape: tuple[int, ...]
) -> None:
    before = torch.get_rng_state()
    network = built_network(model, train, task)
    assert torch.equal(before, torch.get_rng_state())
    assert network(X).shape == shape


def test_a_function_of_a_file_and_a_run_are_built(tmp_path: Any) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\ndef make(outputs): return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))"
    )
    assert built_network(f"{file}:make", (X, Y), "classify")(X).shape == (24, 3)
    run = striate.train((X, Y), model="mlp(8)", epochs=1, out=tmp_path / "run", set={"execution.plan": "plain"})
    network, trained = built_network(str(run.path), (X, Y), "classify"), run.load().module
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), trained.parameters(), strict=True))


def test_a_run_whose_task_has_a_head_is_diagnosed_whole_and_for_its_task(tmp_path: Any) -> None:
    wanted = {"model": "conv(4,3) relu fc(4)", "epochs": 1, "task": "embed"}
    fields = {"task.dimensions": 4, "execution.plan": "plain"}
    run = striate.train((X, torch.arange(24) % 8), out=tmp_path / "run", set=fields, **wanted)
    network, trained = built_network(str(run.path), (X, Y), "embed"), run.load().module
    assert {*network.state_dict()} == {*trained.state_dict()}
    with pytest.raises(UsageError, match="the task of the run, embed"):
        built_network(str(run.path), (X, Y), "classify")


def test_a_layer_string_is_diagnosed() -> None:
    assert striate.diagnose("conv(4,3) relu fc(3)", (X, Y), budget_seconds=0.5).looked_at


def test_what_names_no_network_is_refused() -> None:
    with pytest.raises(ModelError, match="an int"):
        striate.diagnose(5, (X, Y))  # type: ignore[arg-type]
