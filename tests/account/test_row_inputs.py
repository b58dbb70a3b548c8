"""Where the input of each layer comes from: against torch's own tracer, and on modules that are hard to follow."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from quick import few_quick
from striate import summarize
from striate.account.ledger import Row
from striate.models.build import build_model


class Tracer(fx.Tracer):
    """Layers of striate are looked into as little as those of torch."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        own = type(module).__module__.startswith("striate.layers.") and not list(module.children())
        return own or super().is_leaf_module(module, name)


def inputs_by_tracer(model: nn.Module, rows: tuple[Row, ...]) -> list[tuple[int, ...]]:
    """The same from a symbolic trace: calls of modules, and of functions that rows are named after, have a place."""
    functions = {row.name.rpartition(".")[2] for row in rows}
    sources: dict[fx.Node, set[int]] = {}
    found: list[tuple[int, ...]] = []
    for node in Tracer().trace(model).nodes:
        taken = set().union(*(sources[other] for other in node.all_input_nodes))
        is_row = node.op == "call_module" or getattr(node.target, "__name__", node.target) in functions
        if node.op == "placeholder":
            taken = {-1}
        elif is_row and node.op != "get_attr":
            found.append(tuple(sorted(taken)))
            taken = {len(found) - 1}
        sources[node] = taken
    return found


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    "name", few_quick(["resnet18", "googlenet", "densenet121", "inception_v3"], ["resnet18", "googlenet"])
)
def test_inputs_are_those_of_the_traced_graph(name: str) -> None:
    ledger = summarize(name)
    model = build_model(name, ledger.input, 10).eval()
    rows = tuple(row for row in ledger.rows if row.executed)
    expected = inputs_by_tracer(model, rows)
    assert len(expected) == len(rows)
    assert [row.inputs for row in rows] == expected
    assert any(len(row.inputs) > 1 for row in rows)


def test_the_skips_of_a_unet() -> None:
    rows = summarize("small-unet").rows
    names = {row.name: [rows[place].name for place in row.inputs] for row in rows if len(row.inputs) > 1}
    assert names == {"decoder2.conv1": ["encoder2.relu2", "up2"], "decoder1.conv1": ["encoder1.relu2", "up1"]}


def test_squeeze_and_excitation_multiplies_what_it_was_given() -> None:
    rows = summarize("seresnet50").rows
    place = next(k for k, row in enumerate(rows) if row.name.endswith("se.sigmoid"))
    excited, shortcut = rows[place].inputs, rows[place + 1].inputs
    assert [rows[k].name for k in excited] == ["layer1.0.se.fc2"]
    assert [rows[k].name for k in shortcut] == ["maxpool"]
    joined = next(row for row in rows[place + 1 :] if len(row.inputs) > 1)
    assert [rows[k].name.removeprefix("layer1.0.") for k in joined.inputs] == ["bn3", "se.sigmoid", "downsample.1"]


class Sum(nn.Module):
    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.conv1, self.relu, self.conv2 = nn.Conv2d(2, 2, 1), nn.ReLU(inplace=inplace), nn.Conv2d(2, 2, 1)
        self.drop, self.last = nn.Dropout(), nn.Conv2d(2, 2, 1)
        self.inplace = inplace

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.conv1(x))
        z = self.drop(self.conv2(y))
        if self.inplace:
            z += x
        else:
            z = z + x
        return self.last(z)


@pytest.mark.parametrize("inplace", [False, True])
def test_sums_in_place_and_layers_that_give_their_input(inplace: bool) -> None:
    rows = summarize(Sum(inplace=inplace), (2, 4, 4)).rows
    assert [row.inputs for row in rows] == [(-1,), (0,), (1,), (2,), (-1, 3)]


class Shared(nn.Module):
    """One layer called twice, a parameter between layers, a product of two branches, and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.last = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.fc(x)
        second = self.fc(first * self.scale)
        return self.last(second.view(-1, 2, 2) @ first.view(-1, 2, 2))


def test_products_parameters_and_what_never_ran() -> None:
    rows = {(k, row.name): row.inputs for k, row in enumerate(summarize(Shared(), (4,)).rows)}
    assert rows == {
        (0, "fc"): (-1,),
        (1, "scale"): (),
        (2, "fc"): (0, 1),
        (3, "matmul"): (0, 2),
        (4, "last"): (3,),
        (5, "idle"): (),
    }


class Own(nn.Module):
    """A layer of one's own, written with functions that are rows elsewhere."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) + torch.tanh(x)


def test_a_layer_of_ones_own_is_one_source() -> None:
    rows = summarize(nn.Sequential(nn.Conv2d(1, 1, 1), Own(), nn.Conv2d(1, 1, 1)), (1, 4, 4)).rows
    assert [row.inputs for row in rows] == [(-1,), (0,), (1,)]
