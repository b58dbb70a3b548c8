"""Inspecting a network preserves its state, also where a copy calls the original; a user's code runs once."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from striate import summarize
from striate.account.field.effective import effective_receptive_field
from striate.account.summarize import summarize_and_measure
from striate.errors import ModelError
from striate.models.check import check_forward

SHAPE = (3, 8, 8)
ROWS = [("0", 112, 3888), ("1", 8, 0), ("2", 0, 0), ("3", 290, 288)]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


def replace_forward(part: nn.Module) -> None:
    original = part.forward
    part.forward = lambda x: original(x)


class HoldsAnother(nn.Module):
    """Calls a network that it has not registered."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.call = lambda x: other(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


LOOKS: dict[str, Callable[[nn.Module], object]] = {
    "summarize": lambda module: summarize(module, SHAPE),
    "check": lambda module: check_forward(module, SHAPE),
    "effective": lambda module: effective_receptive_field(module, SHAPE, samples=1),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("where", ["root", "part", "closure"])
def test_what_a_closure_holds_is_left_alone(where: str, look: str) -> None:
    inner = network()
    if where != "closure":
        replace_forward(inner if where == "root" else inner[1])
    before = {key: value.clone() for key, value in inner.state_dict().items()}
    if (where, look) == ("closure", "effective"):
        with pytest.raises(ValueError, match="no module that outputs a map"):
            LOOKS[look](HoldsAnother(inner))
    else:
        LOOKS[look](HoldsAnother(inner) if where == "closure" else inner)
    assert all(torch.equal(before[key], value) for key, value in inner.state_dict().items())
    assert all(part.training for part in inner.modules())


@pytest.mark.parametrize("part", [None, 1])
def test_rows_where_a_forward_was_replaced(part: int | None) -> None:
    module = network()
    replace_forward(module if part is None else module[part])
    ledger = summarize(module, SHAPE)
    assert [(row.name, row.params, row.macs) for row in ledger.rows] == ROWS
    assert all(row.executed for row in ledger.rows)


def test_parameters_that_no_module_has_registered_are_told() -> None:
    ledger = summarize(HoldsAnother(network()), SHAPE)
    assert (ledger.params, ledger.macs) == (0, 3888 + 288)
    assert ledger.uncounted == (
        "410 parameters in a plain list or a closure: register them as an attribute or in an nn.ModuleList",
    )


class CallsCompiled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(3, 2), torch.compile(lambda x: x.relu() * 2, backend="eager")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.fc(x))


def compiled_in_place() -> nn.Module:
    module = nn.Linear(3, 2)
    module.compile(backend="eager")
    return module


def compiled_forward() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    module.forward = torch.compile(module.forward, backend="eager")
    return module


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.compile(nn.Linear(3, 2), backend="eager"),
        lambda: nn.Sequential(torch.compile(nn.Linear(3, 2), backend="eager"), nn.ReLU()),
        compiled_in_place,
        compiled_forward,
        CallsCompiled,
    ],
    ids=["network", "layer", "in place", "forward", "function"],
)
def test_compiled_networks_are_counted_as_they_are_written(make: Callable[[], nn.Module]) -> None:
    module = make()
    ledger = summarize(module, (3,))
    assert (ledger.params, ledger.macs, ledger.output) == (8, 6, (2,))
    assert all(not vars(parameter) for parameter in module.parameters())
    check_forward(module, (3,))


def test_lazy_networks_stay_lazy_and_draw_nothing() -> None:
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    before = torch.get_rng_state()
    ledger = summarize(module, SHAPE)
    assert [(row.name, row.params, row.macs) for row in ledger.rows] == ROWS
    assert all(nn.parameter.is_lazy(parameter) for parameter in module.parameters())
    assert type(module[1]) is nn.LazyBatchNorm2d
    assert torch.equal(before, torch.get_rng_state())


def test_a_lazy_network_that_would_get_its_shapes_itself_is_refused() -> None:
    module = nn.Sequential(nn.LazyConv2d(4, 3))
    replace_forward(module)
    with pytest.raises(ModelError) as caught:
        summarize(module, SHAPE)
    assert nn.parameter.is_lazy(module[0].weight)
    exec(caught.value.remedy.partition(", run once")[0], {"network": module, "torch": torch})
    assert summarize(module, SHAPE).params == 112


def test_memory_of_training_is_known_in_inference_mode_too() -> None:
    plain, named = summarize(network(), SHAPE), summarize("mnist-cnn")
    with torch.inference_mode():
        assert summarize(network(), SHAPE).training_bytes == plain.training_bytes > 0
        assert summarize("mnist-cnn").training_bytes == named.training_bytes > 0


CODE = """
import sys
import torch
from torch import nn
print("file is read")
class Looks(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
    def forward(self, x):
        return self.conv(x) if x.sum().item() < 1e9 else x
def build():
    print("network is built")
    if torch.rand(3).sum().item() > 100:
        raise ValueError
    return Looks()
def lazy():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
def fails():
    print("network is built")
    raise RuntimeError("mine")
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(CODE, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("effective", [False, True])
def test_a_file_is_run_once_and_the_random_state_stays(
    code: str, effective: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    ledger, _ = summarize_and_measure(f"{code}:build", SHAPE, effective=effective)
    assert (ledger.model, ledger.macs) == (f"{code}:build", 3888)
    assert capsys.readouterr().err == "file is read\nnetwork is built\n"
    assert torch.equal(before, torch.get_rng_state())


def test_a_file_that_fails_is_run_once(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match="mine"):
        summarize(f"{code}:fails", SHAPE)
    assert capsys.readouterr().err == "file is read\nnetwork is built\n"


def test_a_file_with_lazy_layers(code: str) -> None:
    assert summarize(f"{code}:lazy", SHAPE).params == 112 + 290


class DrawsEverywhere(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * random.random() * np.random.rand() + torch.rand_like(x)


def test_no_random_state_moves_on() -> None:
    before = random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2], torch.get_rng_state()
    summarize(DrawsEverywhere(), (3,))
    after = random.getstate(), np.random.get_state()[1].tobytes(), np.random.get_state()[2], torch.get_rng_state()
    assert before[:3] == after[:3]
    assert torch.equal(before[3], after[3])
