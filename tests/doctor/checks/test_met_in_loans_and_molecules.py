"""Items that users chose, looked up in tables by a step that never calls the network as a whole; graphs whose nodes are
counted, or whose labels are of others; and their twins."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003)


class Tables(nn.Module):
    """Vectors of users and of items, which steps read by themselves."""

    def __init__(self, above_zero: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items = nn.Embedding(100, 8), nn.Embedding(60, 8)
        if above_zero:
            for table in (self.users, self.items):
                nn.init.uniform_(table.weight, 0.1, 0.5)


def chosen() -> tuple[Tensor, Tensor]:
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


@pytest.mark.parametrize(("leaks", "together"), [(True, False), (True, True), (False, False), (False, True)])
def test_items_held_out_are_no_pairs_of_training(leaks: bool, together: bool) -> None:
    users, items = chosen()
    train = loader(users if leaks else users[:, :8], items if leaks else items[:, :8], together=together)
    val = loader(users[:, 8], items[:, 8], together=together)
    found = said(LEAK, Tables(), train, val=val, step=ranking(), optimizer=adam)
    assert [one.code for one in found] == ["data.leak"] * leaks


def test_pairs_that_come_again_and_again_may_be_in_validation_as_well() -> None:
    users, items = chosen()
    train = loader(users.repeat(1, 2), items.repeat(1, 2))
    val = loader(users[:, :3], items[:, :3])
    assert not said(LEAK, Tables(), train, val=val, step=ranking(), optimizer=adam)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(("weights", "above_zero"), [(False, False), (True, False), (False, True)])
def test_vectors_of_chosen_items_are_moved_towards_the_users(turned: bool, weights: bool, above_zero: bool) -> None:
    step = ranking(turned, weights)
    found = said(PAIRS_SWAPPED, Tables(above_zero), loader(*chosen()), step=step, optimizer=adam)
    assert ["as of items drawn at random" in one.measured for one in found] == [True] * turned


def graphs(count: int, seed: int, apart: bool = False) -> list[tuple[Tensor, int]]:
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


def of_graphs(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(model(*batch[:2]), batch[2])
    value.backward()
    optimizer.step()
    return value.detach()


EVALUATED = """
def evaluate(model, batches):
    correct, total = 0, 0
    for nodes, owner, y in batches:
        correct += (model(nodes, owner).argmax(dim=1) == y).sum().item()
        total += len({counted})
    return correct / total

for epoch in range(5):
    for nodes, owner, y in loader:
        step(nodes, owner, y)
    shown = evaluate(model, val_loader)
"""


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("counted", "right"), [("nodes", False), ("y", True)])
def test_graphs_are_counted_by_their_labels(counted: str, right: bool) -> None:
    text, names = EVALUATED.format(counted=counted), dict[str, Any]()
    exec(text[: text.index("for epoch")], names)
    train, val = (
        DataLoader(graphs(count, seed), 25, collate_fn=behind_each_other) for count, seed in ((100, 0), (300, 1))
    )
    model = OfNodes()
    names |= {"model": model, "val_loader": val}
    options = {"loss": nn.CrossEntropyLoss(), "optimizer": adam, "step": of_graphs, "val": val, "names": names}
    found = read(text, WRONG_COUNT, model, train, **options)
    assert ["the number of nodes" in one.measured for one in found] == [True] * (not right)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_graphs_have_to_do_with_them(apart: bool) -> None:
    train = DataLoader(graphs(800, 0, apart), 25, collate_fn=behind_each_other)
    found = said(LABELS_RANDOM, OfNodes(), train, loss=nn.CrossEntropyLoss(), optimizer=adam, step=of_graphs)
    assert [one.code for one in found] == ["data.labels-random"] * apart
