"""Best epochs, records, offsets and exchanged settings: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_claims import Claims, of_claims, step
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.checks.optim.weight_decay_too_high import exchanged_with_momentum

RATED = """
def rate(outputs, labels):
    hits = (outputs.argmax(1) == labels).sum().item()
    return {returned}

"""


@pytest.mark.parametrize(
    ("name", "returned", "sign", "right"),
    [
        ("pck", "hits", "<", False),
        ("pck", "hits", ">", True),
        ("score", "hits / len(labels)", "<", False),
        ("score", "hits / len(labels)", ">", True),
        ("score", "(len(labels) - hits) / len(labels)", "<", True),
        ("score", "hits", "<", True),
        ("error", "hits / len(labels)", "<", True),
    ],
)
def test_a_share_of_hits_is_best_where_it_is_highest(name: str, returned: str, sign: str, right: bool) -> None:
    text = RATED.format(returned=returned) + SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    {name} = rate(outputs, labels)\n    if {name} {sign} best:\n        best = {name}\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


class Records(Dataset[Any]):
    """Images that a list holds by name, brightened at random for training."""

    def __init__(self, rows: slice, training: bool) -> None:
        x, y = digits().dataset.tensors  # type: ignore[attr-defined]
        pairs = zip(x[rows], y[rows], strict=True)
        self.records = [{"img": image, "label": label} for image, label in pairs]
        self.training = training

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        image, label = self.records[place].values()
        return image * (0.8 + 0.4 * torch.rand(()) if self.training else 1.0) + 0.3 * self.training, label


@pytest.mark.parametrize("first", [100, 160])
def test_records_by_name_that_are_held_for_training_and_validation(first: int) -> None:
    train = DataLoader(Records(slice(160), True), 32, shuffle=True)
    said = asked(LEAK, perceptron(), train, val=DataLoader(Records(slice(first, first + 60), False), 32))
    assert [one.code for one in said] == ["data.leak"] * (first < 160)


class Offset(Claims):
    """Outputs of one axis, to which the exposure is added as a column, or as it is."""

    def __init__(self, column: bool) -> None:
        super().__init__()
        self.column = column

    def forward(self, kinds: Tensor, numbers: Tensor, exposure: Tensor) -> Tensor:
        return super().forward(kinds, numbers, exposure[:, None] if self.column else exposure)


@pytest.mark.parametrize("column", [False, True])
def test_an_offset_as_a_column_plus_one_number_of_each_sample(column: bool) -> None:
    assert of_claims(BROADCAST, Offset(column)) == ["loss.broadcast"] * column


@pytest.mark.parametrize(("momentum", "decay", "named"), [(1e-4, 0.9, True), (0.9, 1e-4, False), (0.0, 0.9, False)])
def test_momentum_and_decay_are_exchanged(momentum: float, decay: float, named: bool) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), 0.01, momentum=momentum, weight_decay=decay)
    assert [one.code for one in exchanged_with_momentum(optimizer)] == ["optim.weight-decay-too-high"] * named


class Rates(nn.Module):
    """A rate for each row, and the logarithm of how much it counts for beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 1)

    def forward(self, table: Tensor, offset: Tensor) -> Tensor:
        return self.head(table).squeeze(1) + offset


@pytest.mark.parametrize(
    ("added", "of_today", "related", "wrong"),
    [(0.5, True, True, True), (0.5, False, True, False), (1.0, True, True, True), (0.5, True, False, False)],
)
def test_a_column_is_the_logarithm_of_a_count_as_a_rate(
    added: float, of_today: bool, related: bool, wrong: bool
) -> None:
    torch.manual_seed(0)
    table, offset = torch.randn(320, 5), torch.randint(2, 8, (320,)).float().log()
    counts = torch.poisson((0.7 * table[:, 1] * related + 1.5 + offset).exp())
    history = (counts + added).log() - offset
    table[:, 0] = history if of_today else history.roll(1)
    table = (table - table.mean(0)) / table.std(0)
    loader = DataLoader(TensorDataset(table, offset, counts), 32)
    said = asked(TARGET_IN_INPUT, Rates(), loader, step=step)
    assert [one.code for one in said] == ["data.target-in-input"] * wrong
