"""Tables beside other inputs, graphs in named tuples, shares of batches: faults that were met, and healthy twins."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

import pytest
import torch
from asked import asked
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.class_balance import MISSING_CLASS
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.batch_means import BATCH_MEANS
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource


class Claims(nn.Module):
    def __init__(self, squeezed: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kinds, self.head, self.squeezed = nn.Embedding(4, 2), nn.Linear(5, 1), squeezed

    def forward(self, kinds: Tensor, numbers: Tensor, exposure: Tensor) -> Tensor:
        found = self.head(torch.cat([self.kinds(kinds), numbers], 1))
        return (found.squeeze(1) if self.squeezed else found) + exposure


def policies(rows: slice, moved: float = 0.0) -> DataLoader[Any]:
    torch.manual_seed(0)
    numbers, kinds, exposure = torch.randn(240, 3), torch.randint(0, 4, (240,)), -torch.rand(240)
    claims = torch.poisson((numbers[:, 0] / 2 + 2 + exposure).exp())
    numbers[:, 2] = 0.2 * numbers[:, 2] + moved
    return DataLoader(TensorDataset(*(part[rows] for part in (kinds, numbers, exposure, claims))), 24)


def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    *given, claims = batch
    loss = functional.poisson_nll_loss(model(*given), claims)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def of_claims(check: Any, model: nn.Module, val: Any = None) -> list[str]:
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    train = policies(slice(192), -3.0)
    return [one.code for one in asked(check, model, train, val=val, step=step, optimizer=optimizer)]


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_column_plus_an_offset_of_each_sample(squeezed: bool) -> None:
    assert of_claims(BROADCAST, Claims(squeezed)) == ["loss.broadcast"] * (not squeezed)


@pytest.mark.parametrize("moved", [6.0, -3.0])
def test_a_column_of_a_table_beside_categories_is_prepared_otherwise(moved: float) -> None:
    assert of_claims(SHIFT, Claims(), policies(slice(192, 240), moved)) == ["data.shift"] * (moved > 0)


class Graphs(NamedTuple):
    x: Tensor
    batch: Tensor
    y: Tensor
    num_graphs: int


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def forward(self, data: Graphs) -> Tensor:
        return self.layer(torch.zeros(data.num_graphs, 4).index_add(0, data.batch, data.x))


def graphs(kinds: list[int], count: int) -> list[Graphs]:
    torch.manual_seed(0)
    found = []
    for _ in range(count):
        y = torch.tensor(kinds * 4)
        owner = torch.arange(len(y)).repeat_interleave(5)
        found.append(Graphs(torch.randn(len(owner), 4) + functional.one_hot(y[owner], 4), owner, y, len(y)))
    return found


def of_graphs(check: Any, kinds: list[int], **options: Any) -> list[str]:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.cross_entropy(model(batch), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = options.pop("model", None) or Pooled()
    return [one.code for one in asked(check, model, graphs(kinds, 6), step=step, **options)]


@pytest.mark.parametrize("kinds", [[0, 1], [0, 1, 2]])
def test_classes_of_graphs_in_a_named_tuple(kinds: list[int]) -> None:
    val = graphs([0, 1, 2], 2)
    assert of_graphs(MISSING_CLASS, kinds, val=val) == ["data.missing-class"] * (len(kinds) < 3)
    with pytest.raises(NoEvidence, match="no numbers beside each other"):
        of_graphs(TARGET_IN_INPUT, kinds)


@pytest.mark.parametrize("below", ["num_graphs", "x.size(0)"])
def test_right_graphs_are_divided_by_nodes(below: str) -> None:
    text = f"""
def test(model, loader):
    right, total = 0, 0
    for data in loader:
        right += int((model(data).argmax(1) == data.y).sum())
        total += data.{below}
    return right / total
for data in train:
    pass
print(test(model, val))
"""
    tree, model = ast.parse(text), Pooled()
    val: Any = DataLoader(graphs([0, 1, 2], 2), None)  # type: ignore[arg-type]
    names: dict[str, Any] = {"model": model, "val": val}
    exec(compile(ast.Module(tree.body[:1], []), "a.py", "exec"), names)
    source = ScriptSource({"a.py": tree}, names, ("a.py", 8, 9), 1)
    said = of_graphs(WRONG_COUNT, [0, 1, 2], model=model, val=val, source=source)
    assert said == ["eval.wrong-count"] * (below != "num_graphs")


@pytest.mark.parametrize(("size", "wrong"), [("len(y)", True), ("y.size(0)", True), ("1", False)])
def test_a_mean_of_the_shares_of_batches(size: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y)", f"shares.append((predicted == y).sum().item() / {size}) #")
    text = text.replace("accuracy = correct / total\n", "accuracy = np.mean(shares)\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong


@pytest.mark.parametrize(("begin", "parts", "wrong"), [(60, True, False), (30, True, True), (60, False, True)])
def test_positions_within_what_is_left(begin: int, parts: bool, wrong: bool) -> None:
    text = SCRIPT + f"evaluate(x{'[rest]' * parts}, y{'[rest]' * parts}, idx_val)\n"
    names = {"idx_train": torch.arange(60), "rest": torch.arange(begin, 100), "idx_val": torch.arange(40)}
    assert list(found(text, values() | names, [SPLIT_OVERLAP])) == ["data.split-overlap"] * wrong
