"""Places that augmentation leaves behind, graphs that are put together, and targets far too small; and their twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, loop
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.inputs.graphs_together import GRAPHS_TOGETHER
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.evidence.clock import NoEvidence


class Chords(Dataset[Any]):
    """Spectra with three bins a note and some notes each; or a single note, whose number is asked for; or which of
    eight timbres sound, wherever."""

    def __init__(self, seed: int, asks: str, moves: str = "") -> None:
        generator = torch.Generator().manual_seed(seed)
        self.asks, self.moves = asks, moves
        self.notes = functional.one_hot(torch.randint(3, 13, (200, 1 if asks == "one" else 3), generator=generator), 16)
        self.spectra = 0.1 * torch.randn(200, 48, generator=generator)
        for note in self.notes.float().unbind(1):
            self.spectra += note.repeat_interleave(3, 1)
        self.notes = self.notes.amax(1).float()
        if asks == "none":
            self.notes = (torch.rand(200, 8, generator=generator) < 0.5).float()
            self.spectra += self.notes.mean(1, keepdim=True)

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.spectra[index, None, None], self.notes[index]
        if self.moves:
            shift = int(torch.randint(-3, 4, ()))
            x, y = x.roll(3 * shift, -1), y if self.moves == "inputs" else y.roll(shift)
        return x, y.argmax() if self.asks == "one" else y


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize(("asks", "moves"), [("all", "inputs"), ("all", "both"), ("one", "inputs"), ("none", "inputs")])
def test_places_go_along_with_what_is_shifted(asks: str, moves: str, by_step: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        shift = int(torch.randint(1, 4, ()))
        x, y = x.roll(3 * shift, -1), y if moves == "inputs" else y.roll(shift, -1)
        return loop(model, (x, y), optimizer, loss)

    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 8 if asks == "none" else 16))
    options: dict[str, Any] = {"val": DataLoader(Chords(1, asks), 50), "step": step if by_step else loop}
    options["optimizer"] = torch.optim.Adam(model.parameters(), 1e-2)
    options["loss"] = functional.cross_entropy if asks == "one" else functional.binary_cross_entropy_with_logits
    said = asked(LEFT_BEHIND, model, DataLoader(Chords(0, asks, "" if by_step else moves), 50), **options)
    assert ["shifted" in one.measured for one in said] == [True] * (asks != "none" and moves == "inputs")


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


def together(graphs: list[dict[str, Tensor]], moved: bool = True, across: bool = False) -> dict[str, Tensor]:
    """One graph of many, and of each node which graph it is of."""
    sizes = torch.tensor([len(graph["x"]) for graph in graphs])
    offsets = (sizes.cumsum(0) - sizes) * moved
    edges = torch.cat([graph["edges"] + offset for graph, offset in zip(graphs, offsets, strict=True)], 1)
    found = {"x": torch.cat([graph["x"] for graph in graphs]), "edges": edges.T.contiguous() if across else edges}
    found["graph"] = torch.arange(len(graphs)).repeat_interleave(sizes)
    return found | {"y": torch.cat([graph["y"] for graph in graphs])}


class Messages(nn.Module):
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
        found = together(graphs, moved, by == "loader across")
        return found if adds or by == "hand" else {name: found[name] for name in found if name != "graph"}

    graphs: Any = rings(64)
    batches = [collate(graphs[begin : begin + 16]) for begin in range(0, 64, 16)]
    train = batches if by == "hand" else DataLoader(graphs, 16, collate_fn=collate)
    model = Messages(adds)
    options = {"loss": functional.mse_loss, "optimizer": torch.optim.Adam(model.parameters()), "step": step}
    assert len(asked(GRAPHS_TOGETHER, model, train, **options)) == (not moved and not adds)


def test_one_large_graph_is_no_batch_of_graphs() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return loop(model, (batch, batch["y"]), optimizer, loss)

    x, model = torch.randn(40, 3), Messages(False)
    batch = {"x": x, "edges": torch.randint(12, (2, 90)), "kind": torch.arange(40) % 5, "y": x[:, :1]}
    options = {"loss": functional.mse_loss, "optimizer": torch.optim.Adam(model.parameters()), "step": step}
    assert not asked(GRAPHS_TOGETHER, model, [batch], **options)


class Scaled(nn.Sequential):
    """Two layers whose outputs have the size of the targets."""

    def __init__(self, scale: float) -> None:
        super().__init__(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) * self.scale
        return out


@pytest.mark.parametrize("compared", [functional.mse_loss, functional.l1_loss])
@pytest.mark.parametrize(
    ("unit", "divided", "scale", "right"),
    [(1e-6, 1.0, 1.0, False), (1e-3, 10.0, 1.0, False), (1e-6, 1e-6, 1.0, True), (1e-6, 1.0, 1e-6, True)],
)
def test_tiny_targets_are_scaled_up(compared: Any, unit: float, divided: float, scale: float, right: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = compared(model(batch["place"]), batch["pull"] / divided)
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    x = torch.randn(256, 4)
    y = unit * torch.stack([x[:, 0] - x[:, 1], x[:, 2]], 1)
    batches = [{"place": x[rows], "pull": y[rows]} for rows in torch.arange(256).split(32)]
    model = Scaled(scale)
    options = {"loss": compared, "optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    try:
        said = asked(TARGET_SCALE, model, batches, **options)
    except NoEvidence:  # of targets that go by no usual name
        said = []
    assert ["variance 1" in one.measured for one in said] == [True] * (not right)
