"""Batches of a script's own class, counts that a column tells, numbers of a data set: faults that were met, and
healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.shift.normalized_apart import normalized_apart
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.wrong_count import WRONG_COUNT
from striate.doctor.checks.loss.counted.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.optim.steps import PARAMETERS_MISSING
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import copied
from striate.doctor.setup.training_setup import make_setup


class Batch:
    def __init__(self, rows: list[Tensor]) -> None:
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        self.given, self.wanted, self.count = tokens[:, :-1], tokens[:, 1:], len(rows)


def sentences() -> DataLoader[Any]:
    torch.manual_seed(0)
    rows = [torch.randint(1, 12, (4 + number % 5,)) for number in range(96)]
    return DataLoader(rows, 32, collate_fn=Batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("ignored", [0, -100])
def test_padding_is_known_in_batches_of_the_scripts_own_class(ignored: int) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        scores = model(batch.given).flatten(0, 1)
        loss = functional.cross_entropy(scores, batch.wanted.flatten(), ignore_index=ignored)
        return stepped(loss, optimizer)

    said = []
    for check in (IGNORED_CLASS, PADDING_COUNTED):
        model = nn.Sequential(nn.Embedding(12, 8), nn.Linear(8, 12))
        said += asked(check, model, sentences(), step=step, optimizer=torch.optim.Adam(model.parameters()))
    assert [one.code for one in said] == ["loss.padding-counted"] * (ignored < 0)


def test_a_batch_of_the_scripts_own_class_is_copied_with_its_tensors() -> None:
    batch = next(iter(sentences()))
    copy = copied(batch)
    copy.given.zero_()
    assert copy.count == batch.count == 32
    assert int(batch.given[0, 0]) > 0


def stepped(loss: Tensor, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


class Rates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kinds, self.head = nn.Embedding(40, 3), nn.Linear(7, 1)

    def forward(self, kinds: Tensor, numbers: Tensor) -> Tensor:
        rates: Tensor = self.head(torch.cat([self.kinds(kinds), numbers], 1)).squeeze(1)
        return rates


def counted(column: str = "") -> DataLoader[Any]:
    """Counts beside kinds and four numbers, of which the last may come with each of those that are counted, or say
    where none can be."""
    torch.manual_seed(0)
    kinds, numbers = torch.randint(0, 40, (320,)), torch.randn(320, 4)
    counts = torch.poisson((numbers[:, 0] / 2 + 1).exp())
    if column == "open":
        counts = counts + 1
        counts[::4] = 0
        numbers[:, 3] = (counts > 0).float()
    elif column == "cost":
        numbers[:, 3] = (1 + counts * (1 + 0.1 * torch.rand(320))).log()
    return DataLoader(TensorDataset(kinds, numbers, counts), 32)


def step_of_counts(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    *given, counts = batch
    return stepped(functional.poisson_nll_loss(model(*given), counts), optimizer)


@pytest.mark.parametrize("whole", [False, True])
def test_embeddings_in_no_optimizer_where_the_loss_may_be_below_zero(whole: bool) -> None:
    model = Rates()
    optimizer = torch.optim.Adam((model if whole else model.head).parameters(), 0.02)
    said = asked(PARAMETERS_MISSING, model, counted(), step=step_of_counts, optimizer=optimizer)
    assert [(one.code, one.severity) for one in said] == [("optim.parameters-missing", "warning")] * (not whole)


@pytest.mark.parametrize("column", ["", "open", "cost"])
def test_a_column_that_comes_with_what_is_counted(column: str) -> None:
    model = Rates()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    said = asked(TARGET_IN_INPUT, model, counted(column), step=step_of_counts, optimizer=optimizer)
    assert [one.code for one in said] == ["data.target-in-input"] * (column == "cost")


def test_class_numbers_are_no_counts() -> None:
    """A column that tells the first class from all others, and has these in order, as petals tell irises."""
    kinds, numbers = torch.arange(320) % 4, torch.randn(320, 4)
    numbers[:, 0] = kinds + 0.4 * torch.rand(320)
    assert not asked(TARGET_IN_INPUT, nn.Linear(4, 4), DataLoader(TensorDataset(numbers, kinds), 32, shuffle=True))


@pytest.mark.parametrize(("made", "wrong"), [("mean()", True), ("sum()", False)])
def test_means_of_batches_divided_by_the_samples_that_a_loop_counts(made: str, wrong: bool) -> None:
    text = f"""
def deviance(model, batches):
    total, count = 0.0, 0
    for x, y in batches:
        total += (model(x) - y).abs().{made}.item()
        count += y.size(0)
    return total / count
print(deviance(model, val_loader))
"""
    assert list(found(SCRIPT + text, values(), [WRONG_COUNT])) == ["eval.wrong-count"] * wrong


class Prepared(Dataset[Any]):
    def __init__(self, x: Tensor, mean: float, std: float, noise: float) -> None:
        self.x, self.mean, self.std, self.noise = x, mean, std, noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        x = (self.x[place] - self.mean) / self.std
        return x + self.noise * torch.randn_like(x), place % 2


@pytest.mark.parametrize(
    ("mean", "std", "noise", "wrong"), [(0.0, 1.0, 0.0, True), (4.0, 2.0, 0.0, False), (4.0, 2.0, 0.5, False)]
)
def test_a_data_set_that_lacks_the_numbers_of_that_of_training(
    mean: float, std: float, noise: float, wrong: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = (4 + 2 * torch.randn(2, 64, 1, 8, 8, generator=generator)).unbind()
    train, val = Prepared(parts[0], 4.0, 2.0, 0.0), Prepared(parts[1], mean, std, noise)
    setup = make_setup(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), *(DataLoader(part, 16) for part in (train, val)))
    told = normalized_apart(Evidence(setup, Clock(20.0)), (parts[0] - 4) / 2)
    assert ("`mean` and `std`" in told) is wrong
