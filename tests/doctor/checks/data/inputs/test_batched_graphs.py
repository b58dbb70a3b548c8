"""`data.scrambled` of graphs: a batch concatenates the nodes of many graphs, but its edges number the nodes of each
graph from 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from for_checks.asked import asked, loop
from for_checks.graphs import GraphMessages, of_classes, rings, step_over_graphs, together
from striate.doctor.checks.data.inputs.batched_graphs import BATCHED_GRAPHS


@pytest.mark.parametrize("moved_by", ["graphs", "nodes", "nothing"])
def test_edges_are_moved_on_by_the_nodes_before(moved_by: str) -> None:
    train: Any = DataLoader(of_classes(64), 16, collate_fn=lambda graphs: together(graphs, moved_by))  # type: ignore[arg-type]
    model = GraphMessages()
    options: dict[str, Any] = {"optimizer": torch.optim.SGD(model.parameters(), 1e-2), "step": step_over_graphs}
    said = asked(BATCHED_GRAPHS, model, train, **options)
    assert [one.code for one in said] == ["data.scrambled"] * (moved_by != "nodes")


def one_graph_of_many(graphs: list[dict[str, Tensor]], moved: bool = True, across: bool = False) -> dict[str, Tensor]:
    """One graph of many, and of each node which graph it is of."""
    sizes = torch.tensor([len(graph["x"]) for graph in graphs])
    offsets = (sizes.cumsum(0) - sizes) * moved
    edges = torch.cat([graph["edges"] + offset for graph, offset in zip(graphs, offsets, strict=True)], 1)
    found = {"x": torch.cat([graph["x"] for graph in graphs]), "edges": edges.T.contiguous() if across else edges}
    found["graph"] = torch.arange(len(graphs)).repeat_interleave(sizes)
    return found | {"y": torch.cat([graph["y"] for graph in graphs])}


class NodeMessages(nn.Module):
    """A message along each edge; `adds`: nodes are numbered by the graph, and it adds what lies before."""

    def __init__(self, adds: bool) -> None:
        super().__init__()
        self.adds, self.node, self.message = adds, nn.Linear(3, 8), nn.Linear(3, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        edges, x = batch["edges"], batch["x"]
        edges = edges if edges.shape[0] == 2 else edges.T
        if self.adds:
            sizes = batch["graph"].bincount()
            edges = edges + (sizes.cumsum(0) - sizes).repeat_interleave(2 * sizes)
        start, end = edges
        hidden = self.node(x).index_add(0, end, self.message(x)[start])
        out: Tensor = self.out(hidden.relu())
        return out


@pytest.mark.parametrize("by", ["loader", "loader across", "hand"])
@pytest.mark.parametrize(("moved", "adds"), [(False, False), (True, False), (False, True)])
def test_edges_of_graphs_in_a_batch_are_between_their_own_nodes(by: str, moved: bool, adds: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return loop(model, (batch, batch["y"]), optimizer, loss)

    def collate(graphs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        found = one_graph_of_many(graphs, moved, by == "loader across")
        return found if adds or by == "hand" else {name: found[name] for name in found if name != "graph"}

    graphs: Any = rings(64)
    batches = [collate(graphs[begin : begin + 16]) for begin in range(0, 64, 16)]
    train = batches if by == "hand" else DataLoader(graphs, 16, collate_fn=collate)
    model = NodeMessages(adds)
    options = {"loss": functional.mse_loss, "optimizer": torch.optim.Adam(model.parameters()), "step": step}
    assert len(asked(BATCHED_GRAPHS, model, train, **options)) == (not moved and not adds)


def test_one_large_graph_is_no_batch_of_graphs() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return loop(model, (batch, batch["y"]), optimizer, loss)

    x, model = torch.randn(40, 3), NodeMessages(False)
    batch = {"x": x, "edges": torch.randint(12, (2, 90)), "kind": torch.arange(40) % 5, "y": x[:, :1]}
    options = {"loss": functional.mse_loss, "optimizer": torch.optim.Adam(model.parameters()), "step": step}
    assert not asked(BATCHED_GRAPHS, model, [batch], **options)
