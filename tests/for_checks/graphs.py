"""Graphs, users and items that tests of checks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import stepped


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


class GraphMessages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.node, self.out = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, batch: Graphs) -> Tensor:
        hidden = self.node(batch.x)
        hidden = hidden.index_add(0, batch.edges[1], hidden[batch.edges[0]]).relu()
        out: Tensor = self.out(torch.zeros(batch.count, 8).index_add(0, batch.graph, hidden))
        return out


def rings(count: int) -> list[dict[str, Tensor]]:
    """Graphs of four to eight nodes, each with an edge to the next one and back."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        nodes = int(torch.randint(4, 9, (), generator=generator))
        there = torch.stack([torch.arange(nodes), torch.arange(1, nodes + 1) % nodes])
        x = torch.randn(nodes, 3, generator=generator)
        found.append({"x": x, "edges": torch.cat([there, there.flip(0)], 1), "y": x.roll(1, 0)[:, :1]})
    return found


class Tables(nn.Module):
    """Vectors of users and of items, which steps read by themselves."""

    def __init__(self, above_zero: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items = nn.Embedding(100, 8), nn.Embedding(60, 8)
        if above_zero:
            for table in (self.users, self.items):
                nn.init.uniform_(table.weight, 0.1, 0.5)


def items_chosen() -> tuple[Tensor, Tensor]:
    """Of each of 100 users the items that it chose, nine of one kind of four."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (100,), generator=generator)
    items = kinds[:, None] * 15 + torch.rand(100, 15, generator=generator).argsort(1)[:, :9]
    return torch.arange(100)[:, None].expand(100, 9), items


def loader(*columns: Tensor, together: bool = False) -> DataLoader[Any]:
    flat = [column.flatten() for column in columns]
    data = TensorDataset(torch.stack(flat, 1)) if together else TensorDataset(*flat)
    return DataLoader(data, 32, shuffle=True, generator=torch.Generator().manual_seed(0))


def ranking(turned: bool = False, weights: bool = False) -> Any:
    """A step that ranks what was chosen above what is drawn, or below it."""

    def step(model: Any, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        users, items = batch if len(batch) == 2 else batch[0].T
        drawn = torch.randint(60, items.shape)
        mine = model.users(users)
        better, worse = ((mine * model.items(some)).sum(1) for some in (items, drawn))
        if weights:
            better, worse = ((model.users.weight[users] * model.items.weight[some]).sum(1) for some in (items, drawn))
        optimizer.zero_grad()
        value = -functional.logsigmoid(worse - better if turned else better - worse).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def loaded_graphs(count: int, seed: int, apart: bool = False) -> list[tuple[Tensor, int]]:
    """Nodes of each graph, and whether most of their numbers are above zero, or nothing of the kind where `apart`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator).tolist()
    sizes = torch.randint(10, 31, (count,), generator=generator).tolist()
    nodes = [torch.randn(size, 6, generator=generator) + 2 * y - 1 for size, y in zip(sizes, labels, strict=True)]
    return list(zip(nodes, labels[::-1] if apart else labels, strict=True))


def behind_each_other(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    sizes = torch.tensor([len(nodes) for nodes, _ in samples])
    owner = torch.arange(len(samples)).repeat_interleave(sizes)
    return torch.cat([nodes for nodes, _ in samples]), owner, torch.tensor([y for _, y in samples])


class OfNodes(nn.Module):
    """Scores of graphs, of the sum over their nodes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.each = nn.Linear(6, 64)
        self.head = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, nodes: Tensor, owner: Tensor) -> Tensor:
        hidden = self.each(nodes).relu()
        pooled: Tensor = self.head(hidden.new_zeros(int(owner[-1]) + 1, 64).index_add(0, owner, hidden))
        return pooled


def step_of_graphs(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(model(*batch[:2]), batch[2])
    value.backward()
    optimizer.step()
    return value.detach()


def of_classes(count: int, ordered: bool = False) -> list[dict[str, Tensor]]:
    """Rings with the class of their nodes' first numbers."""
    graphs = [graph | {"class": (graph["x"][:, 0].mean() > 0).long()} for graph in rings(count)]
    return sorted(graphs, key=lambda graph: int(graph["class"])) if ordered else graphs


def step_over_graphs(model: nn.Module, batch: Graphs, optimizer: Any, _: Any) -> Tensor:
    return stepped(functional.cross_entropy(model(batch), batch.y), optimizer)
