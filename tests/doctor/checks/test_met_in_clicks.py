"""Rare clicks whose loss is weighed in the step, and graphs in batches that are objects: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from asked import asked
from test_met_in_graphs_and_sounds import rings
from test_met_in_second_heads import stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.graphs_together import GRAPHS_TOGETHER
from striate.doctor.checks.data.labels.class_balance import IMBALANCE
from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED
from striate.doctor.setup.batch import altered, copied, leaf, leaves, main_tensor, parts

X = torch.randn(640, 4, generator=torch.Generator().manual_seed(0))
CLICKS = (X[:, 0] > 1.4).float()
RARE = float((1 - CLICKS).sum() / CLICKS.sum())


def loss_of(kind: str, logits: Tensor, clicks: Tensor) -> Tensor:
    weight = 1 + (RARE - 1) * clicks
    if kind == "positives":
        return functional.binary_cross_entropy_with_logits(logits, clicks, pos_weight=torch.tensor(RARE))
    if kind == "samples":
        return functional.binary_cross_entropy(logits.sigmoid(), clicks, weight=weight)
    each = functional.binary_cross_entropy_with_logits(logits, clicks, reduction="none")
    return (each * weight if kind == "by hand" else each).mean()


@pytest.mark.parametrize("kind", ["positives", "samples", "by hand", "none"])
def test_rare_positives_that_the_step_weighs_are_not_imbalanced(kind: str) -> None:
    """Also where the first batch has none of them."""
    order = CLICKS.argsort(stable=True)
    rows = torch.cat([order[:16], order[16:][torch.randperm(624, generator=torch.Generator().manual_seed(0))]])
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(model, loss_of(kind, model(batch[0]), batch[1]), optimizer)

    options: dict[str, Any] = {"optimizer": torch.optim.SGD(model.parameters(), 1e-3), "step": step}
    said = asked(IMBALANCE, model, DataLoader(TensorDataset(X[rows], CLICKS[rows]), 16), **options)
    assert [one.code for one in said] == ["data.imbalance"] * (kind == "none")


@dataclass(frozen=True)
class Graphs:
    """One graph of many, each with a class."""

    x: Tensor
    edges: Tensor
    graph: Tensor
    y: Tensor
    count: int


def together(graphs: list[dict[str, Tensor]], moved_by: str = "nodes") -> Graphs:
    sizes = torch.tensor([len(graph["x"]) for graph in graphs])
    numbers = torch.arange(len(graphs))
    offsets = {"nodes": sizes.cumsum(0) - sizes, "graphs": numbers, "nothing": numbers * 0}[moved_by]
    edges = torch.cat([graph["edges"] + offset for graph, offset in zip(graphs, offsets, strict=True)], 1)
    x = torch.cat([graph["x"] for graph in graphs])
    y = torch.stack([graph["class"] for graph in graphs])
    return Graphs(x, edges, numbers.repeat_interleave(sizes), y, len(graphs))


class Messages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.node, self.out = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, batch: Graphs) -> Tensor:
        hidden = self.node(batch.x)
        hidden = hidden.index_add(0, batch.edges[1], hidden[batch.edges[0]]).relu()
        out: Tensor = self.out(torch.zeros(batch.count, 8).index_add(0, batch.graph, hidden))
        return out


def step_over_graphs(model: nn.Module, batch: Graphs, optimizer: Any, _: Any) -> Tensor:
    return stepped(model, functional.cross_entropy(model(batch), batch.y), optimizer)


def of_classes(count: int, ordered: bool = False) -> list[dict[str, Tensor]]:
    graphs = [graph | {"class": (graph["x"][:, 0].mean() > 0).long()} for graph in rings(count)]
    return sorted(graphs, key=lambda graph: int(graph["class"])) if ordered else graphs


@pytest.mark.parametrize("moved_by", ["graphs", "nodes", "nothing"])
def test_edges_are_moved_on_by_the_nodes_before(moved_by: str) -> None:
    train: Any = DataLoader(of_classes(64), 16, collate_fn=lambda graphs: together(graphs, moved_by))  # type: ignore[arg-type]
    model = Messages()
    options: dict[str, Any] = {"optimizer": torch.optim.SGD(model.parameters(), 1e-2), "step": step_over_graphs}
    said = asked(GRAPHS_TOGETHER, model, train, **options)
    assert [one.code for one in said] == ["data.scrambled"] * (moved_by != "nodes")


@pytest.mark.parametrize("ordered", [True, False])
def test_graphs_of_a_batch_are_counted_and_not_their_nodes(ordered: bool) -> None:
    train: Any = DataLoader(of_classes(160, ordered), 16, collate_fn=together)  # type: ignore[arg-type]
    model = Messages()
    options: dict[str, Any] = {"optimizer": torch.optim.SGD(model.parameters(), 1e-2), "step": step_over_graphs}
    said = asked(NOT_SHUFFLED, model, train, **options)
    assert [one.code for one in said] == ["data.not-shuffled"] * ordered
    assert all("stretches of 16 samples" in one.measured for one in said)


def test_objects_of_data_classes_are_batches_taken_apart() -> None:
    batch = together(of_classes(4))
    assert [path for path, _ in leaves(batch)] == [("x",), ("edges",), ("graph",), ("y",)]
    inputs, targets = parts(batch)
    assert inputs is batch.x
    assert targets is batch.y
    assert main_tensor(batch) is batch.x
    changed = altered(copied(batch), ("y",), torch.zeros_like)
    assert isinstance(changed, Graphs)
    assert not changed.y.any()
    assert torch.equal(batch.x, changed.x)
    assert changed.x is not batch.x
    assert leaf(changed, ("count",)) is None
    assert changed.count == 4
